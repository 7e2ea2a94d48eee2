"""What the recorded requests of an experiment sum up to, grouped by the database."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import ColumnElement, Connection, Engine, case, func, select

from .tables import ASSIGNMENTS, OUTCOMES

VALUES = {
    "tokens": ASSIGNMENTS.c.tokens,
    "reasoning_tokens": ASSIGNMENTS.c.reasoning_tokens,
    "latency_seconds": ASSIGNMENTS.c.latency_seconds,
    "error": ASSIGNMENTS.c.error,
    "truncated": ASSIGNMENTS.c.truncated,
    "mean_entropy": ASSIGNMENTS.c.mean_entropy,
}
"""The metrics that each request has by itself."""

DAY_SECONDS = 86_400.0
ROWS_AT_ONCE = 10_000
"""Are in memory as Python's objects, and are converted in one go, in which the server does nothing else."""
BY_UNIT = ASSIGNMENTS.c.arm, ASSIGNMENTS.c.unit, ASSIGNMENTS.c.epoch


@dataclass(frozen=True)
class UnitSums:
    """One metric of one arm, [entries]: per unit and epoch with a value, how many of its requests have one, and their sum."""

    requests: NDArray[np.float64]
    sums: NDArray[np.float64]
    units: NDArray[np.int64]
    epochs: NDArray[np.int64]


Sums = Mapping[str, Mapping[str, UnitSums]]
"""By arm and metric."""


@dataclass(frozen=True)
class Counted:
    """What one arm has altogether."""

    requests: int
    units: int
    means: Mapping[str, tuple[int, float]]  # by metric: how many values, and their mean


def unit_sums(
    database: Engine, experiment: int, until: float, arms: Sequence[str] = (), *,
    triggered: int | None = None, watched: int | None = None,
) -> Sums:  # fmt: skip
    """Sums per unit of the requests that began before a time (seconds since 1970), of these arms if any are named.

    With `triggered`, only of requests in which that arm's policy (by its number) could have acted; with `watched`, of those in
    which that is known.
    """
    chosen = [ASSIGNMENTS.c.experiment == experiment, ASSIGNMENTS.c.created < until]
    chosen += [ASSIGNMENTS.c.arm.in_(arms)] if arms else []
    for column, number in ((ASSIGNMENTS.c.triggered, triggered), (ASSIGNMENTS.c.watched, watched)):
        if number is not None:
            chosen.append(column.op("&")(1 << number) != 0)
    with database.connect() as connection:
        return _merged(_built_in(connection, chosen), _posted(connection, chosen))


def counted(database: Engine, experiment: int) -> Mapping[str, Counted]:
    """What each arm has so far, all of it."""
    values = [(func.count(column), func.avg(column)) for column in VALUES.values()]
    own = select(
        ASSIGNMENTS.c.arm,
        func.count(),
        func.count(ASSIGNMENTS.c.unit.distinct()),
        *(one for pair in values for one in pair),
    )
    posted = (
        select(ASSIGNMENTS.c.arm, OUTCOMES.c.metric, func.count(), func.avg(OUTCOMES.c.value))
        .join_from(OUTCOMES, ASSIGNMENTS)
        .group_by(ASSIGNMENTS.c.arm, OUTCOMES.c.metric)
    )
    here = ASSIGNMENTS.c.experiment == experiment
    found: dict[str, Counted] = {}
    with database.connect() as connection:
        for arm, requests, units, *rest in connection.execute(own.where(here).group_by(ASSIGNMENTS.c.arm)):
            pairs = zip(VALUES, rest[::2], rest[1::2], strict=True)
            found[arm] = Counted(requests, units, {name: (count, float(mean)) for name, count, mean in pairs if count})
        for arm, metric, count, mean in connection.execute(posted.where(here)):
            found[arm] = Counted(
                found[arm].requests, found[arm].units, {**found[arm].means, metric: (count, float(mean))}
            )
    return found


def units_by_epoch(database: Engine, experiment: int, until: float) -> dict[tuple[int, int], dict[str, int]]:
    """How many units of each arm were first seen in an epoch, by (the epoch in which their part was given, that epoch)."""
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
    """The longest that a request which another server recorded within a day has taken; 0 when there are none."""
    longest = select(func.max(ASSIGNMENTS.c.latency_seconds)).where(
        ASSIGNMENTS.c.experiment == experiment,
        ASSIGNMENTS.c.server != without,
        ASSIGNMENTS.c.created > time.time() - DAY_SECONDS,
    )
    with database.connect() as connection:
        return float(connection.execute(longest).scalar_one() or 0.0)


def _built_in(connection: Connection, chosen: Iterable[ColumnElement[bool]]) -> dict[tuple[str, str], UnitSums]:
    columns = [
        one
        for column in VALUES.values()
        for one in (func.count(column), func.sum(case((column.is_not(None), column), else_=0)))
    ]
    wanted = select(*BY_UNIT, *columns).where(*chosen).group_by(*BY_UNIT)
    pieces: dict[str, list[tuple[NDArray[np.int64], NDArray[np.float64]]]] = {}
    for rows in connection.execution_options(yield_per=ROWS_AT_ONCE).execute(wanted).partitions():
        for arm in {row[0] for row in rows}:
            own = [row for row in rows if row[0] == arm]
            piece = np.array([row[1:3] for row in own], np.int64), np.array([row[3:] for row in own], np.float64)
            pieces.setdefault(arm, []).append(piece)
    found: dict[tuple[str, str], UnitSums] = {}
    for arm, some in pieces.items():
        keys, table = (np.concatenate(parts) for parts in zip(*some, strict=True))
        for number, metric in enumerate(VALUES):
            has = table[:, 2 * number] > 0
            found[arm, metric] = UnitSums(table[has, 2 * number], table[has, 2 * number + 1], *keys[has].T)
    return found


def _posted(connection: Connection, chosen: Iterable[ColumnElement[bool]]) -> dict[tuple[str, str], UnitSums]:
    rows = connection.execute(
        select(*BY_UNIT, OUTCOMES.c.metric, func.count(), func.sum(OUTCOMES.c.value))
        .join_from(OUTCOMES, ASSIGNMENTS)
        .where(*chosen)
        .group_by(*BY_UNIT, OUTCOMES.c.metric)
    )
    gathered: dict[tuple[str, str], list[tuple[int, int, int, float]]] = {}
    for arm, unit, epoch, metric, count, total in rows:
        gathered.setdefault((arm, metric), []).append((unit, epoch, count, total))
    found = {}
    for key, entries in gathered.items():
        units, epochs, counts, totals = zip(*entries, strict=True)
        sums = np.array(counts, np.float64), np.array(totals, np.float64)
        found[key] = UnitSums(*sums, np.array(units, np.int64), np.array(epochs, np.int64))
    return found


def _merged(*parts: Mapping[tuple[str, str], Any]) -> dict[str, dict[str, UnitSums]]:
    found: dict[str, dict[str, UnitSums]] = {}
    for part in parts:
        for (arm, metric), sums in part.items():
            found.setdefault(arm, {})[metric] = sums
    return found
