"""The database: how it is opened, migrated, rejected, and shared by processes that start together."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine, inspect, text
from sqlalchemy.exc import OperationalError

from forkpoint_server.store import database as database_module
from forkpoint_server.store.aggregates import unit_sums
from forkpoint_server.store.assignments import add_assignments
from forkpoint_server.store.database import LIMITS, StoreError, open_database
from forkpoint_server.store.experiments import put_policy, read_definitions, read_number
from forkpoint_server.store.outcomes import Outcome, add_outcomes
from forkpoint_server.store.tables import METADATA
from tests.processes.postgresql import PostgreSQL
from tests.unit.server.experiments.factories import store
from tests.unit.server.store.rows import row

TIMEOUTS = ("lock_timeout", "statement_timeout")

OPEN = "import sys; from forkpoint_server.store.database import open_database; open_database(sys.argv[1])"


def test_the_migrations_make_the_tables(database: Engine) -> None:
    with database.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, METADATA) == []


def test_requests_recorded_before_effects_were_have_none(database: Engine, database_url: str) -> None:
    """The tables as revision 0003 left them, with a request; then a server of today starts."""
    stored = store(database)
    earlier = {name: value for name, value in row(stored.id, "r1").items() if name != "effect"}
    with database.begin() as connection:
        connection.execute(text("DROP TABLE artefacts"))
        connection.execute(text("ALTER TABLE assignments DROP COLUMN effect"))
        connection.execute(text("DROP TABLE servers"))
        connection.execute(text("UPDATE alembic_version SET version_num = '0003'"))
        columns = ", ".join(earlier)
        connection.execute(
            text(f"INSERT INTO assignments ({columns}) VALUES ({', '.join(f':{name}' for name in earlier)})"),
            earlier,
        )
    upgraded = open_database(database_url)
    add_assignments(upgraded, [row(stored.id, "r2", effect=3.5)])
    with upgraded.connect() as connection:
        assert connection.execute(text("SELECT request_id, effect FROM assignments ORDER BY request_id")).all() == [
            ("r1", None), ("r2", 3.5),
        ]  # fmt: skip
    upgraded.dispose()


@pytest.mark.slow
def test_servers_that_start_together(database_url: str) -> None:
    opening = [subprocess.Popen([sys.executable, "-c", OPEN, database_url], stderr=subprocess.PIPE) for _ in range(3)]
    assert [(process.communicate()[1], process.returncode) for process in opening] == [(b"", 0)] * 3
    database = open_database(database_url)
    with database.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM changes")).scalar_one() == 1
    database.dispose()


def test_a_database_of_a_newer_version(database: Engine, database_url: str) -> None:
    with database.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(StoreError, match=r"written by a newer Forkpoint \(its revision is 9999\); update this one"):
        open_database(database_url)


def test_a_database_of_another_program(database: Engine, database_url: str) -> None:
    """Nothing is written to it."""
    with database.begin() as connection:
        connection.execute(text("DROP TABLE alembic_version"))
        METADATA.tables["outcomes"].drop(connection)
    with pytest.raises(StoreError, match=r"has tables of another program \(.*experiments.*\); name another database"):
        open_database(database_url)
    assert "outcomes" not in inspect(database).get_table_names()


def test_sqlite_keeps_what_it_acknowledged(tmp_path: Path) -> None:
    """WAL with a sync at each commit; without foreign keys, outcomes of nothing could be stored."""
    database = open_database(f"sqlite:///{tmp_path / 'x.sqlite3'}")
    with database.connect() as connection:
        pragmas = [
            connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys")
        ]
    assert pragmas == ["wal", 2, 1]
    database.dispose()


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("nonsense", "--database-url is not a URL; write sqlite:"),
        ("mysql://host/x", "mysql is not supported; sqlite and postgresql are"),
        ("sqlite://", "names no file"),
        ("sqlite:////no/such/folder/x.sqlite3", r"sqlite:////no/such/folder/x.sqlite3 cannot be used: unable to open"),
        (
            "postgresql://me:secret@127.0.0.1:1/x",
            r"postgresql\+psycopg://me:\*\*\*@127.0.0.1:1/x cannot be used: .*refused",
        ),
    ],
)
def test_a_database_that_cannot_be_used_is_one_line(url: str, says: str) -> None:
    with pytest.raises(StoreError, match=says) as raised:
        open_database(url)
    assert "\n" not in str(raised.value)
    assert "secret" not in str(raised.value)


def test_a_file_that_is_not_a_database_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "x.sqlite3").write_text("nothing of the kind, " * 100)
    with pytest.raises(StoreError, match="file is not a database"):
        open_database(f"sqlite:///{tmp_path / 'x.sqlite3'}")


def test_the_default_lies_where_the_users_data_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    open_database().dispose()
    assert (tmp_path / "forkpoint" / "forkpoint.sqlite3").is_file()
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "file"))
    with pytest.raises(StoreError, match="set --database-url, or XDG_DATA_HOME"):
        open_database()


def test_only_their_user_reads_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    folder = tmp_path / "forkpoint"
    folder.mkdir(mode=0o755)  # as earlier versions made it
    before = os.umask(0o022)
    try:
        databases = [open_database(), open_database(f"sqlite:///{tmp_path / 'named.sqlite3'}")]
        for database in databases:
            put_policy(database, "mine", {"rules": []})
        files = [*folder.iterdir(), *tmp_path.glob("named.sqlite3*")]
        assert len(files) == 6  # each with its -wal and -shm
        assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        for database in databases:
            database.dispose()
    finally:
        os.umask(before)


def test_a_postgresql_that_waits_for_a_lock_gives_up(
    postgresql_server: PostgreSQL, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "LIMITS", LIMITS.replace("'10s'", "'100ms'"))
    database = open_database(postgresql_server.new_database())
    with database.begin() as holder:
        holder.execute(text("LOCK TABLE changes IN ACCESS EXCLUSIVE MODE"))
        for call in (read_number, read_definitions, lambda engine: put_policy(engine, "mine", {"rules": []})):
            with pytest.raises(OperationalError, match="lock timeout"):
                call(database)
    assert read_number(database) == 0
    database.dispose()


def test_a_postgresql_session_holds_no_state(postgresql_server: PostgreSQL) -> None:
    """PgBouncer gives each transaction another connection: prepared statements, settings and locks would be lost."""
    database = open_database(postgresql_server.new_database())
    stored = store(database)
    for number in range(20):  # psycopg prepares what it has executed five times
        add_assignments(database, [row(stored.id, f"r{number}")])
        add_outcomes(database, stored.id, [Outcome(f"r{number}", "x", 1.0)], 32)
        read_definitions(database)
    assert unit_sums(database, stored.id, time.time() + 1)
    with database.connect() as connection:
        limits = [connection.exec_driver_sql(f"SHOW {name}").scalar_one() for name in TIMEOUTS]
        assert limits == ["10s", "1min"]
    raw = database.raw_connection()
    try:
        cursor = raw.cursor()
        for query, expected in (
            ("SELECT count(*) FROM pg_prepared_statements", 0),
            ("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'", 0),
            ("SELECT count(*) FROM pg_settings WHERE source = 'session' AND name LIKE '%timeout'", 0),
        ):
            assert cursor.execute(query).fetchone() == (expected,), query
    finally:
        raw.close()
        database.dispose()
