"""Outcomes, posted after the request: each once, and all of a list or none."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import Connection, Engine, func, select, tuple_
from sqlalchemy.exc import IntegrityError

from .database import insert, writing
from .tables import ASSIGNMENTS, OUTCOME_METRICS, OUTCOMES

CHUNK = 500


class Outcome(NamedTuple):
    """One number that is known of a request."""

    request_id: str
    metric: str
    value: float


@dataclass(frozen=True)
class Added:
    """What a list brought: the outcomes that are new, each with its arm, and how many were there already."""

    new: tuple[tuple[str, Outcome], ...]
    duplicates: int


class UnknownRequestError(LookupError):
    """An outcome's request is not recorded."""

    def __init__(self, request_id: str) -> None:
        self.request_id = request_id
        super().__init__(request_id)


class ContradictionError(ValueError):
    """An outcome is there with another value."""

    def __init__(self, outcome: Outcome, there: float) -> None:
        self.outcome = outcome
        self.there = there
        super().__init__(
            f"{outcome.metric} of {outcome.request_id} is {there:g} already; an outcome is never changed to {outcome.value:g}"
        )


class TooManyMetricsError(ValueError):
    """An experiment has outcomes of as many metrics as it can have."""


def add_outcomes(database: Engine, experiment: int, outcomes: Sequence[Outcome], most_metrics: int) -> Added:
    """Store outcomes; on return they are committed. Raises UnknownRequestError, ContradictionError or TooManyMetricsError, and then
    nothing is stored."""
    wanted: dict[tuple[str, str], Outcome] = {}
    for outcome in sorted(outcomes):  # in one order, so that two lists do not wait for each other
        first = wanted.setdefault(outcome[:2], outcome)
        if first.value != outcome.value:
            raise ContradictionError(outcome, first.value)
    try:
        with writing(database) as connection:
            arms = _arms(connection, experiment, sorted({outcome.request_id for outcome in wanted.values()}))
            new = _insert(connection, experiment, list(wanted.values()))
            _check_same(connection, experiment, [outcome for key, outcome in wanted.items() if key not in new])
            _note_metrics(connection, experiment, sorted({metric for _, metric in new}), most_metrics)
    except IntegrityError:  # deleted for its age at this moment
        raise UnknownRequestError(next(iter(wanted.values())).request_id) from None
    return Added(tuple((arms[key[0]], wanted[key]) for key in new), len(outcomes) - len(new))


def _arms(connection: Connection, experiment: int, requests: Sequence[str]) -> dict[str, str]:
    """The arm of each request."""
    arms: dict[str, str] = {}
    for begin in range(0, len(requests), CHUNK):
        chunk = requests[begin : begin + CHUNK]
        known = select(ASSIGNMENTS.c.request_id, ASSIGNMENTS.c.arm).where(
            ASSIGNMENTS.c.experiment == experiment, ASSIGNMENTS.c.request_id.in_(chunk)
        )
        arms.update((row.request_id, row.arm) for row in connection.execute(known))
    for request in requests:
        if request not in arms:
            raise UnknownRequestError(request)
    return arms


def _insert(connection: Connection, experiment: int, outcomes: Sequence[Outcome]) -> list[tuple[str, str]]:
    """Insert what is not there; which that was. One that another server is inserting is waited for."""
    now, new = time.time(), []
    for begin in range(0, len(outcomes), CHUNK):
        rows = [
            {"experiment": experiment, **outcome._asdict(), "created": now} for outcome in outcomes[begin : begin + CHUNK]
        ]  # fmt: skip
        added = insert(connection, OUTCOMES).values(rows).on_conflict_do_nothing()
        new += [
            (row.request_id, row.metric)
            for row in connection.execute(added.returning(OUTCOMES.c.request_id, OUTCOMES.c.metric))
        ]
    return new


def _check_same(connection: Connection, experiment: int, outcomes: Sequence[Outcome]) -> None:
    for begin in range(0, len(outcomes), CHUNK):
        chunk = {outcome[:2]: outcome for outcome in outcomes[begin : begin + CHUNK]}
        there = select(OUTCOMES).where(
            OUTCOMES.c.experiment == experiment, tuple_(OUTCOMES.c.request_id, OUTCOMES.c.metric).in_(list(chunk))
        )
        for row in connection.execute(there):
            if row.value != chunk[row.request_id, row.metric].value:
                raise ContradictionError(chunk[row.request_id, row.metric], row.value)


def _note_metrics(connection: Connection, experiment: int, names: Sequence[str], most: int) -> None:
    if not names:
        return
    rows = [{"experiment": experiment, "metric": name} for name in names]
    connection.execute(insert(connection, OUTCOME_METRICS).values(rows).on_conflict_do_nothing())
    count = select(func.count()).select_from(OUTCOME_METRICS).where(OUTCOME_METRICS.c.experiment == experiment)
    if connection.execute(count).scalar_one() > most:
        raise TooManyMetricsError
