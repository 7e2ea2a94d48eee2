"""An experiment as it is shown, and the strata of its units, on simulated traffic whose weights change."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import numpy as np
import pytest
from sqlalchemy import Engine

from forkpoint_policies.spec import InputError, parse_policy
from forkpoint_server.experiments.analysis.srm import srm_test
from forkpoint_server.experiments.assignment import find, hash_of, point_of, salt_of
from forkpoint_server.experiments.lifecycle import space_of
from forkpoint_server.experiments.report import (
    analyse_experiment,
    arm_figures,
    effects_of,
    experiment_to_dict,
    strata_of,
)
from forkpoint_server.store.aggregates import units_by_epoch
from forkpoint_server.store.assignments import add_assignments
from forkpoint_server.store.experiments import StoredExperiment
from forkpoint_server.store.outcomes import Outcome, add_outcomes
from forkpoint_server.store.recorder import SERVER
from tests.unit.server.store.rows import row

from .factories import changed, define, store

ARMS = [{"name": "a", "weight": 0.1}, {"name": "b", "weight": 0.1}]
REQUESTS = 4000
USERS = 3000
RULES = [{"do": {"temperature": 0.5}}]


def test_arms_are_shown_with_the_policies_of_their_definition() -> None:
    arms = [
        {"name": "a", "weight": 0.2, "policy": "none"},
        {"name": "b", "weight": 0.2, "policy": "nowait", "shadow": True},
        {"name": "c", "weight": 0.2, "policy": {"use": "switch-penalty", "with": {"alpha": 5}}},
        {"name": "d", "weight": 0.2, "policy": {"name": "mine", "rules": RULES}},
    ]
    stored = define(arms=arms, control="b")
    shown = experiment_to_dict(stored)
    assert [one["policy"] for one in shown["arms"]] == [one["policy"] for one in arms]
    assert [one["shadow"] for one in shown["arms"]] == [False, True, False, False]
    assert shown["control"] == "b"
    assert define().definition.control == "control"
    policies = [None if arm.definition is None else parse_policy(arm.definition) for arm in stored.definition.arms]
    assert policies[0] is None
    assert [policy and policy.digest for policy in policies[1:]] == [one["digest"] for one in shown["arms"][1:]]
    assert [arm.label for arm in stored.definition.arms] == [None, "nowait (shadow)", "switch-penalty", "inline"]


def test_effects_of_a_query() -> None:
    assert effects_of(["correct:0.05", "a:b:2"]) == {"correct": 0.05, "a:b": 2.0}
    for wrong in ("correct", "correct:", ":1", "correct:nan", "correct:-1"):
        with pytest.raises(InputError, match="is not METRIC:SIZE"):
            effects_of([wrong])


def test_an_effect_can_be_requested_before_the_first_outcome_of_its_metric(database: Engine) -> None:
    stored = store(database, metrics=[{"name": "correct", "direction": "higher", "role": "decision"}])
    found = analyse_experiment(database, stored, None, None, "server", {"correct": 0.05})
    assert found["metrics"]["correct"]["arms"]["calm"]["difference"]["more_requests"] == {
        "effect": 0.05, "source": "given", "requests": None,
    }  # fmt: skip
    with pytest.raises(InputError, match="there is no metric 'other'; there are correct, error"):
        analyse_experiment(database, stored, None, None, "server", {"other": 0.05})


def steps() -> list[StoredExperiment]:
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
) -> tuple[StoredExperiment, dict[tuple[int, int], dict[str, int]]]:
    """REQUESTS in each epoch, of users of whom few come often; `lost` says which are never recorded."""
    experiment = store(database, unit="user", arms=ARMS)
    rows, number = [], 0
    for epoch, stored in enumerate(steps()):
        space = space_of(stored)
        for _ in range(REQUESTS):
            number += 1
            hashed = hash_of(salt_of("one", "s"), users(number))
            owner = find(space, point_of(hashed))
            if owner is None or stored.now.arms[owner[0]].status == "paused" or lost(owner[0], number):
                continue
            arm, interval = owner
            rows.append(
                row(
                    experiment.id,
                    f"r{number}",
                    arm,
                    unit=hashed - 2**63,
                    epoch=epoch,
                    stratum=interval.since,
                    created=float(number),
                )
            )
    add_assignments(database, rows)
    return steps()[-1], units_by_epoch(database, experiment.id, 1e12)


def test_raises_and_pauses_cause_no_mismatch(database: Engine) -> None:
    """Pooling all units of an epoch would show one: most users of the old part were seen before the raise."""
    random = np.random.default_rng(7)
    weights = 1 / (1 + np.arange(USERS))
    users = random.choice(USERS, 5 * REQUESTS + 1, p=weights / weights.sum())
    stored, units = live_through(database, lambda number: f"user-{users[number]}")
    epochs = strata_of(stored, units)
    assert srm_test(["a", "b"], epochs)["p_value"] > 0.05
    assert sum(sum(epoch.units.values()) for epoch in epochs) > 600
    assert set(units) >= {(0, 0), (0, 1), (1, 1), (1, 2), (4, 4)}


def test_lost_units_are_a_mismatch(database: Engine) -> None:
    random = np.random.default_rng(8)
    stored, units = live_through(
        database, lambda number: f"user-{number}", lambda arm, number: arm == "a" and bool(random.random() < 0.25)
    )
    assert srm_test(["a", "b"], strata_of(stored, units))["p_value"] < 0.01


def test_pooled_counts_would_show_a_mismatch(database: Engine) -> None:
    """The reason for strata: returning users have the weights of the epoch in which they were first seen."""
    random = np.random.default_rng(9)
    regulars = random.integers(300, size=5 * REQUESTS + 1)
    stored, units = live_through(database, lambda number: f"user-{regulars[number]}")
    first_two = {key: counts for key, counts in units.items() if key[1] == 1}
    total = {arm: sum(counts.get(arm, 0) for counts in first_two.values()) for arm in "ab"}
    assert total["b"] > 20 * max(total["a"], 1)  # the weights of the epoch predict a factor of 5
    assert srm_test(["a", "b"], strata_of(stored, units))["passed"]


def test_outcomes_that_an_earlier_version_stored_do_not_stop_the_report(database: Engine) -> None:
    """Their sums would overflow; the largest that are accepted do not."""
    stored = store(database)
    arms, created = ("control", "calm"), time.time() - 60
    rows = [row(stored.id, f"{arm}{number}", arm, created=created) for arm in arms for number in range(30)]
    add_assignments(database, rows)
    largest = [Outcome(one["request_id"], "large", 1e100 * (-1) ** number) for number, one in enumerate(rows)]
    add_outcomes(database, stored.id, largest, 32)
    add_outcomes(database, stored.id, [Outcome(one["request_id"], "huge", 1.7e308) for one in rows[:50]], 32)
    figures = arm_figures(database, stored)
    assert all("huge" not in arm["metrics"] and arm["metrics"]["large"]["requests"] == 30 for arm in figures)
    analysis = analyse_experiment(database, stored, None, None, SERVER, {})
    assert "huge" not in analysis["metrics"]
    assert analysis["metrics"]["large"]["arms"]["calm"]["requests"] == 30
    json.dumps(analysis["metrics"]["large"], allow_nan=False)


def test_arms_stand_beside_their_placebos(database: Engine) -> None:
    arms = [
        {"name": name, "policy": policy, "weight": 0.2}
        for name, policy in (("control", None), ("ban", "nowait"), ("random", "nowait.placebo"))
    ]
    stored = store(database, arms=arms, metrics=[{"name": "correct", "direction": "higher", "role": "decision"}])
    effects = {"control": 0.0, "ban": 4.0, "random": 1.0}
    rows = [row(stored.id, f"{arm}{n}", arm, effect=effects[arm], created=9.0) for arm in effects for n in range(3)]
    add_assignments(database, rows)
    (found,) = analyse_experiment(database, stored, None, None, SERVER, {})["placebos"]
    assert (found["arm"], found["placebo"]) == ("ban", "random")
    assert (found["dose"], found["placebo_dose"], found["ratio"]) == (0.04, 0.01, 0.25)
    assert found["conclusion"] == "no conclusion: the placebo has 0.25 of its dose, less than 0.8"
    assert found["metrics"]["tokens"]["estimate"] == 0.0
    (by_server,) = analyse_experiment(database, stored, None, 1.0, SERVER, {})["placebos"]
    assert by_server["dose"] is None, "requests that are left out of the analysis are left out here"
    assert analyse_experiment(database, store(database, name="plain"), None, None, SERVER, {})["placebos"] == []
