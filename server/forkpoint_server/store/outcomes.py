"""Outcomes, posted after the request has ended: each is stored once, and of a list either all or none."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import Connection, Engine, func, or_, select, tuple_
from sqlalchemy.exc import IntegrityError

from .database import insert, writing
from .tables import ASSIGNMENTS, OUTCOME_METRICS, OUTCOMES

ROWS_PER_STATEMENT = 500


class Outcome(NamedTuple):
    """The value of one metric for one request, by the client's id of the request or by the response's."""

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
    try:
        with writing(database) as connection:
            requests = _requests(connection, experiment, sorted({outcome.request_id for outcome in outcomes}))
            for outcome in outcomes:  # two ids may name one request
                first = unique.setdefault((requests[outcome.request_id].request_id, outcome.metric), outcome)
                if first.value != outcome.value:
                    raise ContradictionError(outcome, first.value)
            ordered = dict(sorted(unique.items()))  # in one order, so that two lists do not deadlock
            new = _insert(connection, experiment, ordered)
            _check_same(connection, experiment, {key: one for key, one in ordered.items() if key not in new})
            _note_metrics(connection, experiment, sorted({metric for _, metric in new}), max_metrics)
    except IntegrityError:  # the retention deleted the request at this moment
        raise UnknownRequestError(outcomes[0].request_id) from None
    arms = {request.request_id: request.arm for request in requests.values()}
    return AddedOutcomes(tuple((arms[key[0]], unique[key]) for key in new), len(outcomes) - len(new))


class _Request(NamedTuple):
    request_id: str  # under which it is stored
    arm: str


def _requests(connection: Connection, experiment: int, posted: Sequence[str]) -> dict[str, _Request]:
    """The request of each posted id, the client's or the response's. Raises UnknownRequestError."""
    found: dict[str, _Request] = {}
    columns = ASSIGNMENTS.c.request_id, ASSIGNMENTS.c.response_id
    for start in range(0, len(posted), ROWS_PER_STATEMENT):
        chunk = posted[start : start + ROWS_PER_STATEMENT]
        known = select(*columns, ASSIGNMENTS.c.arm).where(
            ASSIGNMENTS.c.experiment == experiment, or_(*(column.in_(chunk) for column in columns))
        )
        rows = connection.execute(known).all()
        found |= {row.response_id: _Request(row.request_id, row.arm) for row in rows}
        found |= {row.request_id: _Request(row.request_id, row.arm) for row in rows}
    for request in posted:
        if request not in found:
            raise UnknownRequestError(request)
    return found


def _insert(
    connection: Connection, experiment: int, outcomes: Mapping[tuple[str, str], Outcome]
) -> dict[tuple[str, str], None]:
    """Insert what is not stored yet, and return its keys. Waits for another server that inserts the same key."""
    now, new = time.time(), dict[tuple[str, str], None]()
    for chunk in _chunks(outcomes):
        rows = [
            {"experiment": experiment, "request_id": request, "metric": metric, "value": one.value, "created": now}
            for (request, metric), one in chunk.items()
        ]
        added = insert(connection, OUTCOMES).values(rows).on_conflict_do_nothing()
        keys = connection.execute(added.returning(OUTCOMES.c.request_id, OUTCOMES.c.metric))
        new |= dict.fromkeys((row.request_id, row.metric) for row in keys)
    return new


def _check_same(connection: Connection, experiment: int, outcomes: Mapping[tuple[str, str], Outcome]) -> None:
    """Raise ContradictionError where the stored value differs."""
    for chunk in _chunks(outcomes):
        stored = select(OUTCOMES).where(
            OUTCOMES.c.experiment == experiment, tuple_(OUTCOMES.c.request_id, OUTCOMES.c.metric).in_(list(chunk))
        )
        for row in connection.execute(stored):
            if row.value != chunk[row.request_id, row.metric].value:
                raise ContradictionError(chunk[row.request_id, row.metric], row.value)


def _chunks(outcomes: Mapping[tuple[str, str], Outcome]) -> Iterator[dict[tuple[str, str], Outcome]]:
    items = list(outcomes.items())
    for start in range(0, len(items), ROWS_PER_STATEMENT):
        yield dict(items[start : start + ROWS_PER_STATEMENT])


def _note_metrics(connection: Connection, experiment: int, names: Sequence[str], max_metrics: int) -> None:
    """Register the metrics of new outcomes. Raises TooManyMetricsError."""
    if not names:
        return
    rows = [{"experiment": experiment, "metric": name} for name in names]
    connection.execute(insert(connection, OUTCOME_METRICS).values(rows).on_conflict_do_nothing())
    count = select(func.count()).select_from(OUTCOME_METRICS).where(OUTCOME_METRICS.c.experiment == experiment)
    if connection.execute(count).scalar_one() > max_metrics:
        raise TooManyMetricsError
