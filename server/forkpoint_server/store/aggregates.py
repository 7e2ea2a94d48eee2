"""Sums over the recorded requests of an experiment, grouped by the database."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import ColumnElement, Connection, Engine, case, func, select

from .built_in_metrics import BUILT_IN_METRICS
from .tables import ASSIGNMENTS, DAY_SECONDS, MAX_OUTCOME, OUTCOMES

COLUMNS = {metric.name: ASSIGNMENTS.c[metric.name] for metric in BUILT_IN_METRICS}
USABLE = OUTCOMES.c.value.between(-MAX_OUTCOME, MAX_OUTCOME)
"""Earlier versions stored larger outcomes, whose sums overflow."""
BY_UNIT = ASSIGNMENTS.c.arm, ASSIGNMENTS.c.unit, ASSIGNMENTS.c.epoch

ROWS_PER_FETCH = 10_000
"""Rows held as Python objects at a time. They are converted in one go, while the server does nothing else."""


@dataclass(frozen=True)
class UnitSums:
    """One metric of one arm, one entry per unit and epoch with at least one value."""

    requests: NDArray[np.float64]  # [entries] how many of the unit's requests have a value
    sums: NDArray[np.float64]  # [entries] the sum of these values
    units: NDArray[np.int64]  # [entries]
    epochs: NDArray[np.int64]  # [entries]


UnitSumsByArm = Mapping[str, Mapping[str, UnitSums]]
"""arm -> metric -> sums."""


@dataclass(frozen=True)
class ArmCounts:
    """The totals of one arm."""

    requests: int
    units: int
    means: Mapping[str, tuple[int, float]]  # metric -> number of values, their mean


def unit_sums(
    database: Engine, experiment: int, until: float, arms: Sequence[str] = (), *,
    triggered: int | None = None, observed: int | None = None,
) -> UnitSumsByArm:  # fmt: skip
    """Sums per unit of the requests that started before `until` (seconds since 1970), in all arms or in `arms`.

    `triggered` and `observed` are numbers of arms. With `triggered`, only requests in which that arm's policy could
    have acted count; with `observed`, only those in which this was evaluated.
    """
    conditions = [ASSIGNMENTS.c.experiment == experiment, ASSIGNMENTS.c.created < until]
    conditions += [ASSIGNMENTS.c.arm.in_(arms)] if arms else []
    for column, number in ((ASSIGNMENTS.c.triggered, triggered), (ASSIGNMENTS.c.watched, observed)):
        if number is not None:
            conditions.append(column.op("&")(1 << number) != 0)
    with database.connect() as connection:
        return _by_arm(_built_in(connection, conditions), _posted(connection, conditions))


def arm_counts(database: Engine, experiment: int) -> Mapping[str, ArmCounts]:
    """The totals of each arm so far, including requests that the analysis still leaves out."""
    values = [(func.count(column), func.avg(column)) for column in COLUMNS.values()]
    built_in = select(
        ASSIGNMENTS.c.arm,
        func.count(),
        func.count(ASSIGNMENTS.c.unit.distinct()),
        *(function for pair in values for function in pair),
    )
    posted = (
        select(ASSIGNMENTS.c.arm, OUTCOMES.c.metric, func.count(), func.avg(OUTCOMES.c.value))
        .join_from(OUTCOMES, ASSIGNMENTS)
        .where(USABLE)
        .group_by(ASSIGNMENTS.c.arm, OUTCOMES.c.metric)
    )
    here = ASSIGNMENTS.c.experiment == experiment
    found: dict[str, ArmCounts] = {}
    with database.connect() as connection:
        for arm, requests, units, *rest in connection.execute(built_in.where(here).group_by(ASSIGNMENTS.c.arm)):
            pairs = zip(COLUMNS, rest[::2], rest[1::2], strict=True)
            means = {metric: (count, float(mean)) for metric, count, mean in pairs if count}
            found[arm] = ArmCounts(requests, units, means)
        for arm, metric, count, mean in connection.execute(posted.where(here)):
            totals = found[arm]
            means = {**totals.means, metric: (count, float(mean))}
            found[arm] = ArmCounts(totals.requests, totals.units, means)
    return found


@dataclass(frozen=True)
class ArmEffect:
    """What an arm's policy changed: `effect` expected tokens of `tokens`; `unknown`: requests of unrecorded effect."""

    effect: float
    tokens: int
    unknown: int


def arm_effects(database: Engine, experiment: int, until: float) -> Mapping[str, ArmEffect]:
    """The effect of each arm's policy, in the requests that started before `until` (seconds since 1970)."""
    known = ASSIGNMENTS.c.effect.is_not(None)
    sums = (
        select(
            ASSIGNMENTS.c.arm,
            func.coalesce(func.sum(ASSIGNMENTS.c.effect), 0.0),
            func.sum(case((known, ASSIGNMENTS.c.tokens), else_=0)),
            func.sum(case((~known & (ASSIGNMENTS.c.tokens > 0), 1), else_=0)),
        )
        .where(ASSIGNMENTS.c.experiment == experiment, ASSIGNMENTS.c.created < until)
        .group_by(ASSIGNMENTS.c.arm)
    )
    with database.connect() as connection:
        return {
            arm: ArmEffect(float(effect), int(tokens), int(unknown))
            for arm, effect, tokens, unknown in connection.execute(sums)
        }


def units_by_epoch(database: Engine, experiment: int, until: float) -> dict[tuple[int, int], dict[str, int]]:
    """The units of each arm, by (epoch in which the arm received their part, epoch in which they were first seen)."""
    first = (
        select(
            ASSIGNMENTS.c.arm, ASSIGNMENTS.c.unit, ASSIGNMENTS.c.stratum, func.min(ASSIGNMENTS.c.epoch).label("seen")
        )
        .where(ASSIGNMENTS.c.experiment == experiment, ASSIGNMENTS.c.created < until)
        .group_by(ASSIGNMENTS.c.arm, ASSIGNMENTS.c.unit, ASSIGNMENTS.c.stratum)
        .subquery()
    )  # fmt: skip
    counts = select(first.c.stratum, first.c.seen, first.c.arm, func.count()).group_by(
        first.c.stratum, first.c.seen, first.c.arm
    )
    found: dict[tuple[int, int], dict[str, int]] = {}
    with database.connect() as connection:
        for stratum, seen, arm, units in connection.execute(counts.order_by(first.c.stratum, first.c.seen)):
            found.setdefault((stratum, seen), {})[arm] = units
    return found


def longest_seconds(database: Engine, experiment: int, without: str) -> float:
    """The longest latency of a request that a server other than `without` recorded within a day; 0 if there is none."""
    longest = select(func.max(ASSIGNMENTS.c.latency_seconds)).where(
        ASSIGNMENTS.c.experiment == experiment,
        ASSIGNMENTS.c.server != without,
        ASSIGNMENTS.c.created > time.time() - DAY_SECONDS,
    )
    with database.connect() as connection:
        return float(connection.execute(longest).scalar_one() or 0.0)


def _built_in(connection: Connection, conditions: Iterable[ColumnElement[bool]]) -> dict[tuple[str, str], UnitSums]:
    """(arm, metric) -> sums of the metrics that the server measures."""
    columns = [
        function
        for column in COLUMNS.values()
        for function in (func.count(column), func.sum(case((column.is_not(None), column), else_=0)))
    ]
    query = select(*BY_UNIT, *columns).where(*conditions).group_by(*BY_UNIT)
    chunks: dict[str, list[tuple[NDArray[np.int64], NDArray[np.float64]]]] = {}
    for rows in connection.execute(query, execution_options={"yield_per": ROWS_PER_FETCH}).partitions():
        for arm in {row[0] for row in rows}:
            own = [row for row in rows if row[0] == arm]
            keys, values = np.array([row[1:3] for row in own], np.int64), np.array([row[3:] for row in own], np.float64)
            chunks.setdefault(arm, []).append((keys, values))
    found: dict[tuple[str, str], UnitSums] = {}
    for arm, parts in chunks.items():
        keys, table = (np.concatenate(columns) for columns in zip(*parts, strict=True))
        for number, metric in enumerate(COLUMNS):
            has = table[:, 2 * number] > 0
            found[arm, metric] = UnitSums(table[has, 2 * number], table[has, 2 * number + 1], *keys[has].T)
    return found


def _posted(connection: Connection, conditions: Iterable[ColumnElement[bool]]) -> dict[tuple[str, str], UnitSums]:
    """(arm, metric) -> sums of posted outcomes."""
    rows = connection.execute(
        select(*BY_UNIT, OUTCOMES.c.metric, func.count(), func.sum(OUTCOMES.c.value))
        .join_from(OUTCOMES, ASSIGNMENTS)
        .where(*conditions, USABLE)
        .group_by(*BY_UNIT, OUTCOMES.c.metric)
    )
    entries: dict[tuple[str, str], list[tuple[int, int, int, float]]] = {}
    for arm, unit, epoch, metric, count, total in rows:
        entries.setdefault((arm, metric), []).append((unit, epoch, count, total))
    found = {}
    for key, some in entries.items():
        units, epochs, counts, totals = zip(*some, strict=True)
        sums = np.array(counts, np.float64), np.array(totals, np.float64)
        found[key] = UnitSums(*sums, np.array(units, np.int64), np.array(epochs, np.int64))
    return found


def _by_arm(*parts: Mapping[tuple[str, str], Any]) -> dict[str, dict[str, UnitSums]]:
    found: dict[str, dict[str, UnitSums]] = {}
    for part in parts:
        for (arm, metric), sums in part.items():
            found.setdefault(arm, {})[metric] = sums
    return found
