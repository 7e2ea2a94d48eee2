"""The rows of requests: each is written once, and deleted with its whole experiment."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import pytest
from sqlalchemy import Engine, Table, select

from forkpoint_server.store.assignments import add_assignments, remove_older
from forkpoint_server.store.database import open_database
from forkpoint_server.store.experiments import (
    change_experiment,
)
from forkpoint_server.store.outcomes import (
    Outcome,
    add_outcomes,
)
from forkpoint_server.store.tables import ASSIGNMENTS, ATTEMPTS, OUTCOMES
from tests.unit.server.experiments.factories import num_rows, store
from tests.unit.server.store.rows import row


def test_a_row_is_written_once(database: Engine) -> None:
    """A batch is written again when its commit is unknown."""
    stored = store(database)
    rows = [row(stored.id, f"r{number}", tokens=number) for number in range(700)]
    assert add_assignments(database, rows) == 0
    assert add_assignments(database, [*rows, row(stored.id, "new")]) == 0
    assert num_rows(database) == 701
    assert num_rows(database, ATTEMPTS) == 0


Ending = Literal["stop", "length", "abort", "error", "refused"]


@pytest.mark.parametrize("in_one_batch", [True, False])
@pytest.mark.parametrize(
    ("endings", "counts", "left_out"),
    [
        (["abort", "stop"], 1, 0),
        (["stop", "abort"], 0, 0),
        (["error", "abort", "refused", "length", "abort"], 3, 0),
        (["abort", "abort"], 0, 0),
        (["stop", "length"], 0, 1),
        (["abort", "stop", "stop"], 1, 1),
    ],
)
def test_of_several_attempts_the_first_completed_one_counts(
    database: Engine, endings: list[Ending], counts: int, left_out: int, in_one_batch: bool
) -> None:
    """The others are stored as attempts, except for what was completed twice; and an outcome stays with its request."""
    stored = store(database)
    rows = [
        row(stored.id, "mine", finish_reason=ending, tokens=number, response_id=f"response-{number}")
        for number, ending in enumerate(endings)
    ]
    if in_one_batch:
        assert add_assignments(database, rows) == left_out
    else:
        assert add_assignments(database, rows[:1]) == 0
        add_outcomes(database, stored.id, [Outcome("response-0", "early", 1.0)], 32)
        assert sum(add_assignments(database, [one]) for one in rows[1:]) == left_out
    (kept,) = rows_of(database, ASSIGNMENTS)
    assert (kept["tokens"], kept["finish_reason"], kept["attempt"]) == (
        counts,
        endings[counts],
        rows[counts]["attempt"],
    )
    not_completed = [one for one in endings if one not in ("stop", "length")]
    if endings[counts] in not_completed:
        not_completed.remove(endings[counts])
    assert sorted(one["finish_reason"] for one in rows_of(database, ATTEMPTS)) == sorted(not_completed)
    added = add_outcomes(database, stored.id, [Outcome("mine", "x", 1.0), Outcome(f"response-{counts}", "x", 1.0)], 32)
    assert (len(added.new), added.duplicates) == (1, 1)
    assert {one["request_id"] for one in rows_of(database, OUTCOMES)} == {"mine"}
    before = rows_of(database, ATTEMPTS)
    add_assignments(database, rows)  # a batch whose commit was unknown
    assert rows_of(database, ATTEMPTS) == before
    assert rows_of(database, ASSIGNMENTS) == [kept]


def test_attempts_that_two_servers_record_at_once(database: Engine, database_url: str) -> None:
    """Whichever commits first: each request is completed once, and its other attempts are stored."""
    stored, other = store(database), open_database(database_url)
    names = [f"r{number}" for number in range(60)]

    def write(engine: Engine, ending: str, order: int) -> None:
        for name in names[::order]:
            add_assignments(engine, [row(stored.id, name, finish_reason=ending), row(stored.id, f"{name}-{ending}")])

    with ThreadPoolExecutor(3) as pool:
        jobs = [
            pool.submit(write, engine, ending, order)
            for engine, ending, order in ((database, "abort", 1), (other, "stop", -1), (database, "error", 1))
        ]
        for job in jobs:
            job.result()
    kept = {one["request_id"]: one["finish_reason"] for one in rows_of(database, ASSIGNMENTS)}
    assert {kept[name] for name in names} == {"stop"}
    assert sorted(one["finish_reason"] for one in rows_of(database, ATTEMPTS)) == ["abort"] * 60 + ["error"] * 60
    other.dispose()


def rows_of(database: Engine, table: Table) -> list[dict[str, Any]]:
    with database.connect() as connection:
        return [dict(one) for one in connection.execute(select(table).order_by(*table.primary_key)).mappings()]


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
