"""The rows of requests: written in batches, deleted by age."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Engine, delete, select, tuple_

from .database import writing
from .statements import insert
from .tables import ASSIGNMENTS

CHUNK = 2000


def add_assignments(database: Engine, rows: Sequence[Mapping[str, Any]]) -> int:
    """Store rows in one transaction; how many are new. Of several with the same request id the first is kept.

    So a batch can be written again when its first commit was not heard of.
    """
    if not rows:
        return 0
    with writing(database) as connection:
        added = insert(connection, ASSIGNMENTS).on_conflict_do_nothing()
        counted = {"preserve_rowcount": True}
        return connection.execute(added, [dict(row) for row in rows], execution_options=counted).rowcount


def remove_older(database: Engine, than: float) -> int:
    """Delete what was created before a time (seconds since 1970), with its outcomes, in pieces, so that nobody waits; how many."""
    keys = ASSIGNMENTS.c.experiment, ASSIGNMENTS.c.request_id
    old = select(*keys).where(ASSIGNMENTS.c.created < than).limit(CHUNK)
    removed = 0
    while True:
        with writing(database) as connection:
            here = connection.execute(delete(ASSIGNMENTS).where(tuple_(*keys).in_(old))).rowcount
        removed += here
        if here < CHUNK:
            return removed
