"""The rows of requests: written in batches, deleted when their experiment has long been stopped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Engine, delete, select, tuple_

from .database import insert, writing
from .tables import ASSIGNMENTS, EXPERIMENTS

ROWS_PER_DELETE = 2000


def add_assignments(database: Engine, rows: Sequence[Mapping[str, Any]]) -> int:
    """Store rows in one transaction. Returns the number of new ones; of several with one request id, the first stays.

    A batch can therefore be written again when it is unknown whether its first commit succeeded.
    """
    if not rows:
        return 0
    with writing(database) as connection:
        added = insert(connection, ASSIGNMENTS).on_conflict_do_nothing()
        options = {"preserve_rowcount": True}
        return connection.execute(added, [dict(row) for row in rows], execution_options=options).rowcount


def remove_older(database: Engine, than: float) -> int:
    """Delete the requests, with their outcomes, of stopped experiments that had none since `than` (seconds since 1970).

    Returns their number. An experiment loses all of its requests or none: no analysis of a part would be valid. Rows
    are deleted in chunks, so that no other writer waits for long.
    """
    keys = ASSIGNMENTS.c.experiment, ASSIGNMENTS.c.request_id
    later = select(ASSIGNMENTS.c.request_id).where(
        ASSIGNMENTS.c.experiment == EXPERIMENTS.c.id, ASSIGNMENTS.c.created >= than
    )
    over = select(EXPERIMENTS.c.id).where(EXPERIMENTS.c.status == "stopped", ~later.exists())
    old = select(*keys).where(ASSIGNMENTS.c.experiment.in_(over)).limit(ROWS_PER_DELETE)
    removed = 0
    while True:
        with writing(database) as connection:
            deleted = connection.execute(delete(ASSIGNMENTS).where(tuple_(*keys).in_(old))).rowcount
        removed += deleted
        if deleted < ROWS_PER_DELETE:
            return removed
