"""Stored experiments and policies: what one server changes, the others see."""

from __future__ import annotations

import time

import pytest
from sqlalchemy import Engine, update

from forkpoint_server.store.assignments import add_assignments
from forkpoint_server.store.database import open_database, writing
from forkpoint_server.store.definitions import EpochArm
from forkpoint_server.store.experiments import (
    change_experiment,
    put_policy,
    read_definitions,
    read_number,
    remove_experiment,
    remove_policy,
)
from forkpoint_server.store.outcomes import (
    Outcome,
    add_outcomes,
)
from forkpoint_server.store.tables import CHANGES, OUTCOMES
from tests.unit.server.experiments.factories import num_rows, store
from tests.unit.server.store.rows import row


def test_other_servers_see_changed_definitions(database: Engine, database_url: str) -> None:
    """Through another connection, as another server would; and each change is one that the others notice."""
    other = open_database(database_url)
    numbers = [read_number(other)]
    stored = store(database, name="one")
    store(database, name="two")
    numbers.append(read_number(other))
    assert put_policy(database, "mine", {"rules": []})
    assert not put_policy(database, "mine", {"rules": [], "shadow": True})
    numbers.append(read_number(other))
    found = read_definitions(other)
    assert [one.name for one in found.experiments] == ["one", "two"]
    assert found.experiments[0] == stored
    assert found.policies == {"mine": {"rules": [], "shadow": True}}
    changed = change_experiment(
        other, "one", lambda before: ("paused", {**before.now.arms, "control": EpochArm(status="paused", intervals=())})
    )
    assert [epoch.number for epoch in changed.epochs] == [0, 1]
    remove_policy(other, "mine", lambda experiments: None)
    remove_experiment(other, "two", lambda one: None)
    numbers.append(read_number(database))
    assert read_definitions(database).experiments == (changed,)
    assert numbers == sorted(set(numbers))
    with pytest.raises(KeyError):
        store(database, name="one")
    with pytest.raises(KeyError):
        change_experiment(database, "two", lambda before: ("paused", None))
    other.dispose()


def test_an_experiment_is_deleted_with_its_records(database: Engine) -> None:
    stored = store(database)
    add_assignments(database, [row(stored.id, "a")])
    add_outcomes(database, stored.id, [Outcome("a", "correct", 1.0)], 32)
    remove_experiment(database, "one", lambda one: None)
    assert (num_rows(database), num_rows(database, OUTCOMES)) == (0, 0)
    assert store(database).id != stored.id  # so a late outcome is not counted for the successor


def test_definitions_are_read_while_somebody_writes(database: Engine, database_url: str) -> None:
    """SQLite has one writer at a time; to read, nobody waits for it."""
    store(database, name="one")
    other = open_database(database_url)
    with writing(other) as connection:
        connection.execute(update(CHANGES).values(number=CHANGES.c.number + 1))
        started_at = time.monotonic()
        assert [one.name for one in read_definitions(database).experiments] == ["one"]
        assert time.monotonic() - started_at < 5
    other.dispose()
