"""The database: how it is opened, migrated, rejected, and shared by processes that start together."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine, text

from forkpoint_server.store.database import StoreError, open_database
from forkpoint_server.store.tables import METADATA

OPEN = "import sys; from forkpoint_server.store.database import open_database; open_database(sys.argv[1])"


def test_the_migrations_make_the_tables(database: Engine) -> None:
    with database.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, METADATA) == []


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
    with pytest.raises(StoreError, match="name another with --database-url"):
        open_database()
