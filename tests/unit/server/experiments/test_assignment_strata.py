"""Whether units come to the arms as the weights say where weights are raised, arms pause and users return: simulated traffic."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from sqlalchemy import Engine

from forkpoint_server.experiments.analysis.srm import sample_ratio
from forkpoint_server.experiments.assignment import find, hash_of, point_of, salt_of
from forkpoint_server.experiments.live import space_of
from forkpoint_server.experiments.report import strata
from forkpoint_server.store.aggregates import units_by_epoch
from forkpoint_server.store.assignments import add_assignments
from forkpoint_server.store.experiments import Stored
from tests.unit.policies.rows import row

from .factories import changed, define, store

ARMS = [{"name": "a", "weight": 0.1}, {"name": "b", "weight": 0.1}]
REQUESTS = 4000
USERS = 3000


def steps() -> list[Stored]:
    """An experiment through its life: b is raised alone, then a is paused, then comes back, then both are raised."""
    found = [define(unit="user", arms=ARMS)]
    for fields in (
        {"arms": [{"name": "b", "weight": 0.5}]},
        {"arms": [{"name": "a", "status": "paused"}]},
        {"arms": [{"name": "a", "status": "running"}]},
        {"arms": [{"name": "a", "weight": 0.3}, {"name": "b", "weight": 0.7}]},
    ):
        found.append(changed(found[-1], **fields))
    return found


def live_through(
    database: Engine, users: Callable[[int], str], lost: Callable[[str, int], bool] = lambda arm, number: False
) -> tuple[Stored, dict[tuple[int, int], dict[str, int]]]:
    """REQUESTS in each epoch, of users of whom few come often; `lost` says which are never recorded."""
    kept = store(database, unit="user", arms=ARMS)
    rows, number = [], 0
    for epoch, stored in enumerate(steps()):
        space = space_of(stored)
        for _ in range(REQUESTS):
            number += 1
            hashed = hash_of(salt_of("one", "s"), users(number))
            place = find(space, point_of(hashed))
            if place is None or stored.now.arms[place[0]]["status"] == "paused" or lost(place[0], number):
                continue
            arm, interval = place
            rows.append(
                row(
                    kept.id,
                    f"r{number}",
                    arm,
                    unit=hashed - 2**63,
                    epoch=epoch,
                    stratum=interval.since,
                    created=float(number),
                )
            )
    add_assignments(database, rows)
    return steps()[-1], units_by_epoch(database, kept.id, 1e12)


def test_raises_and_pauses_are_no_mismatch(database: Engine) -> None:
    """To count all units of an epoch together would be one: before the raise most users of its old part had been seen."""
    random = np.random.default_rng(7)
    weights = 1 / (1 + np.arange(USERS))
    drawn = random.choice(USERS, 5 * REQUESTS + 1, p=weights / weights.sum())
    stored, units = live_through(database, lambda number: f"user-{drawn[number]}")
    epochs = strata(stored, units)
    assert sample_ratio(["a", "b"], epochs)["p_value"] > 0.05
    assert sum(sum(epoch.units.values()) for epoch in epochs) > 600
    assert {(given, seen) for given, seen in units} >= {(0, 0), (0, 1), (1, 1), (1, 2), (4, 4)}


def test_lost_units_are_a_mismatch(database: Engine) -> None:
    random = np.random.default_rng(8)
    stored, units = live_through(
        database, lambda number: f"user-{number}", lambda arm, number: arm == "a" and bool(random.random() < 0.25)
    )
    assert sample_ratio(["a", "b"], strata(stored, units))["p_value"] < 0.01


def test_naive_counting_would_be_one(database: Engine) -> None:
    """What the strata are for: users who return, and the weights of the epoch in which they were first seen."""
    random = np.random.default_rng(9)
    regulars = random.integers(300, size=5 * REQUESTS + 1)
    stored, units = live_through(database, lambda number: f"user-{regulars[number]}")
    first_two = {key: counts for key, counts in units.items() if key[1] == 1}
    together = {arm: sum(counts.get(arm, 0) for counts in first_two.values()) for arm in "ab"}
    assert together["b"] > 20 * max(together["a"], 1)  # where the weights of the epoch say 5
    assert sample_ratio(["a", "b"], strata(stored, units))["passed"]
