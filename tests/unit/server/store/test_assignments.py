"""The rows of requests: each is written once, and deleted with its whole experiment."""

from __future__ import annotations

import time

from sqlalchemy import Engine

from forkpoint_server.store.assignments import add_assignments, remove_older
from forkpoint_server.store.experiments import (
    change_experiment,
)
from forkpoint_server.store.outcomes import (
    Outcome,
    add_outcomes,
)
from forkpoint_server.store.tables import OUTCOMES
from tests.unit.server.experiments.factories import num_rows, store
from tests.unit.server.store.rows import row


def test_a_row_is_written_once(database: Engine) -> None:
    """A batch is written again when its commit is unknown; of two requests with one id the first stays."""
    stored = store(database)
    rows = [row(stored.id, f"r{number}", tokens=number) for number in range(700)]
    assert add_assignments(database, rows) == 700
    assert add_assignments(database, [*rows, row(stored.id, "new")]) == 1
    assert num_rows(database) == 701


def test_an_old_experiment_is_deleted_with_its_outcomes(database: Engine) -> None:
    """All or nothing: results that are valid for all requests are not for those of the last days."""
    stored, now = store(database), time.time()
    add_assignments(database, [row(stored.id, f"old{number}", created=now - 100) for number in range(5000)])
    add_outcomes(database, stored.id, [Outcome("old7", "correct", 1.0)], 32)
    assert remove_older(database, now - 50) == 0, "it runs"
    change_experiment(database, "one", lambda _: ("stopped", None))
    assert remove_older(database, now - 150) == 0
    add_assignments(database, [row(stored.id, "new", created=now)])
    assert remove_older(database, now - 50) == 0
    assert (num_rows(database), num_rows(database, OUTCOMES)) == (5001, 1)
    assert remove_older(database, now + 1) == 5001
    assert (num_rows(database), num_rows(database, OUTCOMES)) == (0, 0)
