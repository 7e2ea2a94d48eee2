"""The recorder, on SQLite and PostgreSQL: it writes every row, and a failing database blocks nobody."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from prometheus_client import REGISTRY
from sqlalchemy import Engine, event
from sqlalchemy.exc import OperationalError

from forkpoint_server.store import recorder as recording
from forkpoint_server.store.assignments import add_assignments
from forkpoint_server.store.database import open_database
from forkpoint_server.store.experiments import (
    change_experiment,
)
from forkpoint_server.store.outcomes import (
    Outcome,
    add_outcomes,
)
from forkpoint_server.store.recorder import Recorder
from forkpoint_server.store.tables import DAY_SECONDS
from tests.processes.postgresql import postgresql
from tests.unit.server.experiments.factories import num_rows, store
from tests.unit.server.store.rows import row


def dropped(reason: str) -> float:
    return REGISTRY.get_sample_value("forkpoint_records_dropped_total", {"model_name": "", "reason": reason}) or 0.0


@contextmanager
def recording_to(database: Engine, max_waiting: int = 1000) -> Iterator[Recorder]:
    recorder = Recorder(database, 90, max_waiting)
    recorder.start()
    try:
        yield recorder
    finally:
        recorder.stop(5)


def test_a_clock_that_is_set_ahead_makes_nothing_old(database: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until the server is restarted with a trustworthy clock."""
    stored, really = store(database), time.time
    add_assignments(database, [row(stored.id, "recent", created=really())])
    change_experiment(database, "one", lambda _: ("stopped", None))
    monkeypatch.setattr(recording, "PURGE_SECONDS", 0.0)
    with recording_to(database) as recorder:
        monkeypatch.setattr(time, "time", lambda: really() + 100 * DAY_SECONDS)
        for _ in range(3):  # a purge follows each batch, so at least two purges end before the third flush does
            assert recorder.flush(5)
    assert num_rows(database) == 1
    with recording_to(database) as recorder:
        for _ in range(3):
            assert recorder.flush(5)
    assert num_rows(database) == 0


def test_the_recorder_writes_all_rows(database: Engine) -> None:
    stored = store(database)
    with recording_to(database, max_waiting=10_000) as recorder:
        for number in range(1200):
            recorder.put(row(stored.id, f"r{number}"))
        assert recorder.flush(10)
        assert num_rows(database) == 1200
        recorder.put(row(stored.id, "last"))
    assert num_rows(database) == 1201  # what waits is written at the end
    assert REGISTRY.get_sample_value("forkpoint_records_waiting", {"model_name": ""}) == 0


def test_rows_of_a_deleted_experiment_do_not_hold_up_the_others(database: Engine) -> None:
    stored, before = store(database), dropped("refused")
    with recording_to(database) as recorder:
        for number in range(20):
            recorder.put(row(stored.id if number % 4 else stored.id + 7, f"r{number}"))
        assert recorder.flush(10)
    assert num_rows(database) == 15
    assert dropped("refused") - before == 5


def test_a_failing_store_blocks_nothing_and_is_retried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store whose transactions fail, as on a full disk, and that then works again."""
    monkeypatch.setattr(recording, "BACKOFF_SECONDS", (0.01, 0.05))
    database = open_database(f"sqlite:///{tmp_path / 'x.sqlite3'}")
    stored, before = store(database), dropped("full")
    full = threading.Event()
    full.set()

    @event.listens_for(database, "before_cursor_execute")
    def fail(connection: object, cursor: object, statement: str, *rest: object) -> None:
        if full.is_set() and statement.startswith("INSERT INTO assignments"):
            raise OperationalError(statement, None, Exception("database or disk is full"))

    with recording_to(database, max_waiting=50) as recorder:
        recorder.put(row(stored.id, "the first"))
        while not recorder.warnings():  # until the writer holds it
            time.sleep(0.01)
        started_at = time.monotonic()
        for number in range(1000):
            recorder.put(row(stored.id, f"r{number}"))
        assert time.monotonic() - started_at < 1
        assert dropped("full") - before == 950
        assert not recorder.flush(0.2)
        (warning,) = recorder.warnings()
        assert "(OperationalError)" in warning
        assert "51 wait, and when 50 do, further ones are dropped" in warning
        full.clear()
        assert recorder.flush(10)
        assert recorder.warnings() == []
        assert num_rows(database) == 51
    database.dispose()


@pytest.mark.soak
def test_a_postgresql_that_goes_away_and_comes_back(tmp_path: Path) -> None:
    """Requests are recorded once it is back; until then outcomes are refused, not acknowledged."""
    with postgresql(tmp_path / "data") as server:
        url = server.new_database()
        database = open_database(url)
        stored = store(database)
        recorder = Recorder(database, 90)
        recorder.start()
        recorder.put(row(stored.id, "before"))
        assert recorder.flush(10)
    recorder.put(row(stored.id, "while it is away"))
    assert not recorder.flush(2)
    with pytest.raises(OperationalError):
        add_outcomes(database, stored.id, [Outcome("before", "correct", 1.0)], 32)
    with postgresql(tmp_path / "data"):
        assert recorder.flush(60)
        assert num_rows(database) == 2
        assert add_outcomes(database, stored.id, [Outcome("before", "correct", 1.0)], 32).new
        recorder.stop()
        database.dispose()
