"""The count of changes of policies, artefacts and experiments, by which other servers notice one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, Engine, select, update

from .database import writing
from .tables import CHANGES

DEFINITIONS = "definitions"


@contextmanager
def changing(database: Engine, is_slow: bool = False) -> Iterator[Connection]:
    """A transaction that changes definitions: others wait for its end, then see a new number of changes."""
    with writing(database, is_slow) as connection:
        connection.execute(update(CHANGES).where(CHANGES.c.what == DEFINITIONS).values(number=CHANGES.c.number + 1))
        yield connection


def number_of_changes(connection: Connection) -> int:
    return int(connection.execute(select(CHANGES.c.number).where(CHANGES.c.what == DEFINITIONS)).scalar_one())
