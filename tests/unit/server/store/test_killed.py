"""kill -9 at any moment: acknowledged writes survive, and the next process continues with the same database."""

from __future__ import annotations

import pytest
from sqlalchemy import select, text

from forkpoint_server.store.database import open_database
from forkpoint_server.store.tables import ASSIGNMENTS, OUTCOMES
from tests.processes.kill import killed
from tests.unit.server.experiments.factories import store


@pytest.mark.slow
@pytest.mark.parametrize("runs", [5, pytest.param(100, marks=[pytest.mark.soak, pytest.mark.timeout(1200)])])
def test_nothing_that_was_acknowledged_is_lost(runs: int, database_url: str) -> None:
    database = open_database(database_url)
    store(database)
    database.dispose()
    acknowledged = killed(database_url, runs, seed=runs)
    assert len({name.partition("-")[0] for name, _ in acknowledged}) >= runs // 2
    database = open_database(database_url)
    with database.connect() as connection:
        there = {row.request_id: row.value for row in connection.execute(select(OUTCOMES))}
        requests = set(connection.execute(select(ASSIGNMENTS.c.request_id)).scalars())
        if database.dialect.name == "sqlite":
            assert connection.execute(text("PRAGMA integrity_check")).scalar_one() == "ok"
            assert connection.execute(text("PRAGMA foreign_key_check")).all() == []
    database.dispose()
    lost = [name for name, value in acknowledged if there.get(name) != value]
    print(f"{len(acknowledged)} acknowledged in {runs} runs, {len(lost)} lost, {len(there)} stored")
    assert lost == []
    assert there.keys() <= requests
