"""Stored outcomes: each once, and of a list all or none, however many servers post them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from sqlalchemy import Engine

from forkpoint_server.store.assignments import add_assignments
from forkpoint_server.store.outcomes import (
    ContradictionError,
    Outcome,
    TooManyMetricsError,
    UnknownRequestError,
    add_outcomes,
)
from forkpoint_server.store.tables import OUTCOMES
from tests.unit.server.experiments.factories import num_rows, store
from tests.unit.server.store.rows import row


def test_outcomes_count_once(database: Engine) -> None:
    stored, other = store(database), store(database, name="two")
    add_assignments(database, [row(stored.id, "a"), row(stored.id, "b", "calm"), row(other.id, "c")])
    posted = [Outcome("a", "correct", 1.0), Outcome("b", "correct", 0.0), Outcome("b", "stars", 4.0)]
    added = add_outcomes(database, stored.id, [*posted, posted[0]], 32)
    assert sorted(added.new) == [("calm", posted[1]), ("calm", posted[2]), ("control", posted[0])]
    assert added.duplicates == 1
    again = add_outcomes(database, stored.id, [*posted, Outcome("a", "stars", 2.0)], 32)
    assert (again.new, again.duplicates) == ((("control", Outcome("a", "stars", 2.0)),), 3)
    assert num_rows(database, OUTCOMES) == 4


def test_a_list_is_stored_as_a_whole_or_not_at_all(database: Engine) -> None:
    stored, other = store(database), store(database, name="two")
    add_assignments(database, [row(stored.id, "a"), row(stored.id, "b"), row(other.id, "c")])
    add_outcomes(database, stored.id, [Outcome("b", "correct", 1.0)], 2)
    good = Outcome("a", "correct", 1.0)
    with pytest.raises(UnknownRequestError, match="c"):
        add_outcomes(database, stored.id, [good, Outcome("c", "correct", 1.0)], 2)
    with pytest.raises(ContradictionError, match="correct of b is 1 already; an outcome is never changed to 0"):
        add_outcomes(database, stored.id, [good, Outcome("b", "correct", 0.0)], 2)
    with pytest.raises(ContradictionError, match=r"correct of a is [01] already"):
        add_outcomes(database, stored.id, [good, Outcome("a", "correct", 0.0)], 2)
    with pytest.raises(TooManyMetricsError):
        add_outcomes(database, stored.id, [good, Outcome("a", "x", 1.0), Outcome("a", "y", 1.0)], 2)
    assert num_rows(database, OUTCOMES) == 1


def test_outcomes_posted_concurrently_count_once(database: Engine) -> None:
    stored = store(database)
    add_assignments(database, [row(stored.id, f"r{number}") for number in range(200)])
    posted = [Outcome(f"r{number}", "correct", float(number % 2)) for number in range(200)]

    def post(seed: int) -> int:
        order = np.random.default_rng(seed).permutation(200).tolist()
        return len(add_outcomes(database, stored.id, [posted[index] for index in order], 32).new)

    with ThreadPoolExecutor(6) as pool:
        assert sum(pool.map(post, range(12))) == 200
    assert num_rows(database, OUTCOMES) == 200
