"""The rows of requests: written in batches, deleted when their experiment is long over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Engine, delete, select, tuple_

from .database import insert, writing
from .tables import ASSIGNMENTS, EXPERIMENTS

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
    """Delete the requests of stopped experiments that had none since a time (seconds since 1970), with their outcomes; how many.

    All of an experiment or nothing: of what is left of one no analysis would be valid. In pieces, so that nobody waits.
    """
    keys = ASSIGNMENTS.c.experiment, ASSIGNMENTS.c.request_id
    later = select(ASSIGNMENTS.c.request_id).where(
        ASSIGNMENTS.c.experiment == EXPERIMENTS.c.id, ASSIGNMENTS.c.created >= than
    )
    over = select(EXPERIMENTS.c.id).where(EXPERIMENTS.c.status == "stopped", ~later.exists())
    old = select(*keys).where(ASSIGNMENTS.c.experiment.in_(over)).limit(CHUNK)
    removed = 0
    while True:
        with writing(database) as connection:
            here = connection.execute(delete(ASSIGNMENTS).where(tuple_(*keys).in_(old))).rowcount
        removed += here
        if here < CHUNK:
            return removed
