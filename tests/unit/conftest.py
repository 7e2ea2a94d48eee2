"""How the property tests of this folder run: the same examples every time, and no limit on a single one's time. And databases."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from sqlalchemy import Engine

from forkpoint_policies.kernel.signals import warm_up
from forkpoint_server.store.database import open_database
from tests.processes.postgresql import PostgreSQL, postgresql

settings.register_profile("repeatable", deadline=None, derandomize=True, database=None)
settings.load_profile("repeatable")

warm_up()  # what is compiled once per process is not part of any example's time


@pytest.fixture(scope="session")
def postgresql_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgreSQL]:
    with postgresql(tmp_path_factory.mktemp("postgresql")) as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'forkpoint.sqlite3'}"
    server: PostgreSQL = request.getfixturevalue("postgresql_server")
    return server.new_database()


@pytest.fixture
def database(database_url: str) -> Iterator[Engine]:
    """The same, opened as a server does."""
    engine = open_database(database_url)
    yield engine
    engine.dispose()
