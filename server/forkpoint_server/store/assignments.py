"""The rows of requests: written in batches, deleted when their experiment has long been stopped."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Engine, RowMapping, delete, select, tuple_, update

from .database import insert, writing
from .tables import ASSIGNMENTS, ATTEMPTS, EXPERIMENTS, MAX_RESPONSE_ID_LENGTH

ROWS_PER_DELETE = 2000
KEYS_PER_SELECT = 500
KEY = ASSIGNMENTS.c.experiment, ASSIGNMENTS.c.request_id
NOT_COMPLETED = ("abort", "error", "refused")
"""How attempts end that a client makes again."""


def can_be_stored(request_id: str, max_length: int = MAX_RESPONSE_ID_LENGTH) -> bool:
    """Whether a database can hold an id: PostgreSQL rejects NUL and what UTF-8 cannot encode."""
    return 0 < len(request_id) <= max_length and not any(
        character == "\0" or "\ud800" <= character <= "\udfff" for character in request_id
    )


def add_assignments(database: Engine, rows: Iterable[Mapping[str, Any]]) -> int:
    """Store rows in one transaction. Returns how many were left out, because their request was completed before.

    Of several attempts at one request, the first completed one counts, or the first if none is; the others that were
    not completed are stored as attempts. A batch can be written again when it is unknown whether its first commit
    succeeded.
    """
    ordered = sorted(map(dict, rows), key=_key)  # in one order, so that two servers do not deadlock
    if not ordered:
        return 0
    with writing(database) as connection:
        added = insert(connection, ASSIGNMENTS).on_conflict_do_nothing()
        written = connection.execute(added, ordered, execution_options={"preserve_rowcount": True}).rowcount
        return 0 if written == len(ordered) else _merge(connection, ordered)


def _merge(connection: Connection, rows: Sequence[dict[str, Any]]) -> int:
    """Decide between rows and those that are stored under the same ids. Returns how many rows were left out."""
    stored: dict[tuple[int, str], dict[str, Any]] = {}
    keys = list(dict.fromkeys(map(_key, rows)))
    for start in range(0, len(keys), KEYS_PER_SELECT):
        same = tuple_(*KEY).in_(keys[start : start + KEYS_PER_SELECT])
        locked = select(ASSIGNMENTS).where(same).order_by(*KEY).with_for_update()
        stored.update((_key(row), dict(row)) for row in connection.execute(locked).mappings())
    left_out, losers = 0, []
    for row in rows:
        current = stored.get(_key(row))
        if current is None or current["attempt"] == row["attempt"]:
            continue
        if not _is_completed(row):
            losers.append(row)
        elif _is_completed(current):
            left_out += 1
        else:
            losers.append(current)
            same = (ASSIGNMENTS.c.experiment == row["experiment"]) & (ASSIGNMENTS.c.request_id == row["request_id"])
            connection.execute(update(ASSIGNMENTS).where(same).values(row))
            stored[_key(row)] = row
    if losers:
        attempts = [{column.name: loser[column.name] for column in ATTEMPTS.c} for loser in losers]
        connection.execute(insert(connection, ATTEMPTS).on_conflict_do_nothing(), attempts)
    return left_out


def _key(row: Mapping[str, Any] | RowMapping) -> tuple[int, str]:
    return row["experiment"], row["request_id"]


def _is_completed(row: Mapping[str, Any]) -> bool:
    return row["finish_reason"] not in NOT_COMPLETED


def remove_older(database: Engine, than: float) -> int:
    """Delete the requests, with their outcomes, of stopped experiments that had none since `than` (seconds since 1970).

    Returns their number. An experiment loses all of its requests or none: no analysis of a part would be valid. Rows
    are deleted in chunks, so that no other writer waits for long.
    """
    later = select(ASSIGNMENTS.c.request_id).where(
        ASSIGNMENTS.c.experiment == EXPERIMENTS.c.id, ASSIGNMENTS.c.created >= than
    )
    over = select(EXPERIMENTS.c.id).where(EXPERIMENTS.c.status == "stopped", ~later.exists())
    old = select(*KEY).where(ASSIGNMENTS.c.experiment.in_(over)).limit(ROWS_PER_DELETE)
    removed = 0
    while True:
        with writing(database) as connection:
            deleted = connection.execute(delete(ASSIGNMENTS).where(tuple_(*KEY).in_(old))).rowcount
        removed += deleted
        if deleted < ROWS_PER_DELETE:
            return removed
