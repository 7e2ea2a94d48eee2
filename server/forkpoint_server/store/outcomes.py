"""Outcomes, posted after the request has ended: each is stored once, and of a list either all or none."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import Connection, Engine, func, select, tuple_
from sqlalchemy.exc import IntegrityError

from .database import insert, writing
from .tables import ASSIGNMENTS, OUTCOME_METRICS, OUTCOMES

ROWS_PER_STATEMENT = 500


class Outcome(NamedTuple):
    """The value of one metric for one request."""

    request_id: str
    metric: str
    value: float


@dataclass(frozen=True)
class AddedOutcomes:
    """The new outcomes of a list, each with its request's arm, and the number of those that were stored already."""

    new: tuple[tuple[str, Outcome], ...]
    duplicates: int


class UnknownRequestError(LookupError):
    """The request of an outcome is not recorded."""

    def __init__(self, request_id: str) -> None:
        self.request_id = request_id
        super().__init__(request_id)


class ContradictionError(ValueError):
    """The outcome is stored with another value."""

    def __init__(self, outcome: Outcome, stored: float) -> None:
        self.outcome = outcome
        self.stored = stored
        super().__init__(
            f"{outcome.metric} of {outcome.request_id} is {stored:g} already; "
            f"an outcome is never changed to {outcome.value:g}"
        )


class TooManyMetricsError(ValueError):
    """The experiment would have outcomes of more metrics than it can have."""


def add_outcomes(database: Engine, experiment: int, outcomes: Sequence[Outcome], max_metrics: int) -> AddedOutcomes:
    """Store outcomes; on return they are committed.

    Raises UnknownRequestError, ContradictionError or TooManyMetricsError, and then nothing is stored.
    """
    unique: dict[tuple[str, str], Outcome] = {}
    for outcome in sorted(outcomes):  # in one order, so that two lists do not deadlock
        first = unique.setdefault(outcome[:2], outcome)
        if first.value != outcome.value:
            raise ContradictionError(outcome, first.value)
    try:
        with writing(database) as connection:
            arms = _arms(connection, experiment, sorted({outcome.request_id for outcome in unique.values()}))
            new = _insert(connection, experiment, list(unique.values()))
            _check_same(connection, experiment, [outcome for key, outcome in unique.items() if key not in new])
            _note_metrics(connection, experiment, sorted({metric for _, metric in new}), max_metrics)
    except IntegrityError:  # the retention deleted the request at this moment
        raise UnknownRequestError(next(iter(unique.values())).request_id) from None
    return AddedOutcomes(tuple((arms[key[0]], unique[key]) for key in new), len(outcomes) - len(new))


def _arms(connection: Connection, experiment: int, requests: Sequence[str]) -> dict[str, str]:
    """The arm of each request. Raises UnknownRequestError."""
    arms: dict[str, str] = {}
    for start in range(0, len(requests), ROWS_PER_STATEMENT):
        chunk = requests[start : start + ROWS_PER_STATEMENT]
        known = select(ASSIGNMENTS.c.request_id, ASSIGNMENTS.c.arm).where(
            ASSIGNMENTS.c.experiment == experiment, ASSIGNMENTS.c.request_id.in_(chunk)
        )
        arms.update((row.request_id, row.arm) for row in connection.execute(known))
    for request in requests:
        if request not in arms:
            raise UnknownRequestError(request)
    return arms


def _insert(connection: Connection, experiment: int, outcomes: Sequence[Outcome]) -> list[tuple[str, str]]:
    """Insert what is not stored yet, and return its keys. Waits for another server that inserts the same key."""
    now, new = time.time(), []
    for start in range(0, len(outcomes), ROWS_PER_STATEMENT):
        chunk = outcomes[start : start + ROWS_PER_STATEMENT]
        rows = [{"experiment": experiment, **outcome._asdict(), "created": now} for outcome in chunk]
        added = insert(connection, OUTCOMES).values(rows).on_conflict_do_nothing()
        new += [
            (row.request_id, row.metric)
            for row in connection.execute(added.returning(OUTCOMES.c.request_id, OUTCOMES.c.metric))
        ]
    return new


def _check_same(connection: Connection, experiment: int, outcomes: Sequence[Outcome]) -> None:
    """Raise ContradictionError where the stored value differs."""
    for start in range(0, len(outcomes), ROWS_PER_STATEMENT):
        chunk = {outcome[:2]: outcome for outcome in outcomes[start : start + ROWS_PER_STATEMENT]}
        stored = select(OUTCOMES).where(
            OUTCOMES.c.experiment == experiment, tuple_(OUTCOMES.c.request_id, OUTCOMES.c.metric).in_(list(chunk))
        )
        for row in connection.execute(stored):
            if row.value != chunk[row.request_id, row.metric].value:
                raise ContradictionError(chunk[row.request_id, row.metric], row.value)


def _note_metrics(connection: Connection, experiment: int, names: Sequence[str], max_metrics: int) -> None:
    """Register the metrics of new outcomes. Raises TooManyMetricsError."""
    if not names:
        return
    rows = [{"experiment": experiment, "metric": name} for name in names]
    connection.execute(insert(connection, OUTCOME_METRICS).values(rows).on_conflict_do_nothing())
    count = select(func.count()).select_from(OUTCOME_METRICS).where(OUTCOME_METRICS.c.experiment == experiment)
    if connection.execute(count).scalar_one() > max_metrics:
        raise TooManyMetricsError
