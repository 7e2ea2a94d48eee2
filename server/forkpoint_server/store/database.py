"""Opening the database: its URL, its durability, and its migrations."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import platformdirs
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import URL, Connection, Engine, Table, create_engine, event, inspect, make_url, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError, DBAPIError

from .network_file_system import network_file_system
from .tables import METADATA

FILE_NAME = "forkpoint.sqlite3"
MIGRATIONS = Path(__file__).parent / "migrations"
POSTGRESQL = {"postgres", "postgresql", "postgresql+psycopg"}
BUSY_SECONDS = 10.0
LIMITS = "SET LOCAL lock_timeout = '10s'; SET LOCAL statement_timeout = '60s'"
"""For each transaction in PostgreSQL: SQLite waits for BUSY_SECONDS. As options of the connection, PgBouncer would
refuse them."""
START_LOCK = 4_017_206_113  # an arbitrary number, the same for all servers
WAL_TRIES = 50


class StoreError(RuntimeError):
    """The database cannot be opened. The message says which and why, in one line and without its password."""


def default_url() -> str:
    """A file in the user's data folder, which is created if needed, for the user alone. Raises StoreError."""
    folder = Path(platformdirs.user_data_dir("forkpoint", appauthor=False))
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with suppress(PermissionError):  # another user's folder, that this one may write to
            folder.chmod(0o700)
    except OSError as error:
        raise StoreError(
            f"no database can be created in {folder} ({error.strerror}); set --database-url, or XDG_DATA_HOME"
        ) from None
    return f"sqlite:///{folder / FILE_NAME}"


def open_database(url: str | None = None) -> Engine:
    """Connect and migrate the tables. Raises StoreError.

    In SQLite and in PostgreSQL, a commit that has returned survives a crash of the process and of the machine.
    """
    parsed = _parsed(url or default_url())
    engine = _sqlite(parsed) if parsed.get_backend_name() == "sqlite" else _postgresql(parsed)
    shown = parsed.render_as_string(hide_password=True)
    try:
        with writing(engine, is_slow=True) as connection:
            _migrate(connection, shown)
    except (DBAPIError, sqlite3.Error) as error:
        engine.dispose()
        raise StoreError(f"the database {shown} cannot be used: {_message(error)}") from None
    except StoreError:
        engine.dispose()
        raise
    return engine


def database_warnings(engine: Engine) -> list[str]:
    """What an operator should know about where the database is, one line each."""
    if engine.dialect.name != "sqlite":
        return []
    file = Path(engine.url.database or "")
    kind = network_file_system(file)
    if kind is None:
        return []
    problem = f"the database {file} is on a network file system ({kind}), where SQLite can lose or corrupt it"
    return [f"{problem}: put it on a local disk, or name a PostgreSQL with --database-url"]


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """A transaction that reads everything as of one moment. It waits for no writer, and none waits for it."""
    with engine.connect() as connection, connection.begin():
        if connection.dialect.name == "postgresql":
            connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        yield connection


@contextmanager
def writing(engine: Engine, is_slow: bool = False) -> Iterator[Connection]:
    """A transaction that writes: committed when the block ends, rolled back when it raises.

    In PostgreSQL its statements end with an error after a time, unless it `is_slow`.

    SQLite has one writer at a time. Announcing the write at the start makes the others wait; a transaction that starts
    as a reader and then writes would make them fail.
    """
    with engine.connect().execution_options(writes=True, is_slow=is_slow) as connection, connection.begin():
        yield connection


def _parsed(url: str) -> URL:
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise StoreError(
            "--database-url is not a URL; write sqlite:////PATH or postgresql://USER:PASSWORD@HOST/DATABASE"
        ) from None
    if parsed.drivername in POSTGRESQL:
        return parsed.set(drivername="postgresql+psycopg")
    if parsed.drivername != "sqlite":
        raise StoreError(f"--database-url: {parsed.drivername} is not supported; sqlite and postgresql are")
    if parsed.database in (None, "", ":memory:"):
        raise StoreError("--database-url names no file; write sqlite:////PATH")
    return parsed


def _postgresql(url: URL) -> Engine:
    """For a PostgreSQL, or a PgBouncer that gives each transaction another connection: no state outlives one."""
    # a lost server is noticed when a connection leaves the pool, or, during a statement, after half a minute
    options = {"connect_timeout": 5, "tcp_user_timeout": 30_000, "application_name": "forkpoint"}
    prepared = {"prepare_threshold": None}  # statements would be prepared on one connection and run on another
    engine = create_engine(url, pool_pre_ping=True, connect_args={**options, **prepared, **url.query})

    @event.listens_for(engine, "begin")
    def limit(connection: Connection) -> None:
        if not connection.get_execution_options().get("is_slow"):
            connection.exec_driver_sql(LIMITS)

    return engine


def _sqlite(url: URL) -> Engine:
    _create_private(url)
    engine = create_engine(url, connect_args={"timeout": BUSY_SECONDS})

    @event.listens_for(engine, "connect")
    def prepare(connection: sqlite3.Connection, _record: Any) -> None:
        connection.isolation_level = None  # transactions start in `begin`, below
        _use_wal(connection)
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE" if connection.get_execution_options().get("writes") else "BEGIN")

    return engine


def _create_private(url: URL) -> None:
    """Create a new file for its user alone; SQLite gives those beside it the same permissions."""
    if url.database is not None and "uri" not in url.query:
        with suppress(OSError):  # it exists, or SQLite says what is wrong
            os.close(os.open(url.database, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))


def _use_wal(connection: sqlite3.Connection) -> None:
    """Switch the file to WAL, retrying: SQLite does not wait for another process that does the same."""
    for tries_left in reversed(range(WAL_TRIES)):
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if tries_left == 0 or "locked" not in str(error):
                raise
            time.sleep(0.1)
        else:
            return


def _migrate(connection: Connection, shown: str) -> None:
    """Migrate within the transaction: of servers that start together, one migrates and the others wait for it."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": START_LOCK})
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    revisions = MigrationContext.configure(connection).get_current_heads()
    taken = METADATA.tables.keys() & inspect(connection).get_table_names() if not revisions else set()
    if taken:
        raise StoreError(
            f"the database {shown} has tables of another program ({', '.join(sorted(taken))}); name another database "
            "with --database-url"
        )
    for revision in revisions:
        if revision not in known:
            raise StoreError(
                f"the database {shown} was written by a newer Forkpoint (its revision is {revision}); update this one, "
                "or name another database with --database-url"
            )
    command.upgrade(config, "head")


def _message(error: Exception) -> str:
    """The driver's message, in one line; SQLAlchemy's adds the statement and a link."""
    cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    return " ".join(str(cause).split()) or type(cause).__name__


def insert(connection: Connection, table: Table) -> postgresql.Insert | sqlite.Insert:
    """An insert that supports ON CONFLICT in both databases."""
    return postgresql.insert(table) if connection.dialect.name == "postgresql" else sqlite.insert(table)
