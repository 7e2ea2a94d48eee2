"""Which of several experiments a request belongs to."""

from __future__ import annotations

import pytest

from forkpoint_server.store.experiments import StoredExperiment
from tests.unit.server.experiments.factories import running

from .factories import HALVES, changed, define

CHAT = "/v1/chat/completions"


async def test_precedence_and_layers() -> None:
    """Higher priority first, then the older one; requests outside of one experiment go on to the next."""
    old = define(1, name="old", unit="user", layer="l", traffic=[0, 0.5])
    new = define(2, name="new", unit="user", layer="l", traffic=[0.5, 1])
    urgent = define(3, name="urgent", unit="user", priority=1, arms=[{**arm, "weight": 0.1} for arm in HALVES])
    users = [f"user-{number}" for number in range(2000)]

    async def shares(*stored: StoredExperiment) -> dict[str, set[str]]:
        experiments = await running(*stored)
        found: dict[str, set[str]] = {}
        for user in users:
            enrolment = experiments.enrol(CHAT, {"user": user}, {})
            found.setdefault(enrolment.live.stored.name if enrolment else "", set()).add(user)
        return found

    both, all_three = await shares(old, new), await shares(old, new, urgent)
    assert set(both) == {"old", "new"}
    assert len(both["old"]) == pytest.approx(1000, abs=80)
    assert len(all_three["urgent"]) == pytest.approx(400, abs=60)
    assert all_three["old"] == both["old"] - all_three["urgent"]
    assert (await shares(old, new, changed(urgent, status="paused"))) == both
    overlapping = define(4, name="late", unit="user")
    assert set(await shares(overlapping, define(5, name="later", unit="user"))) == {"late"}


async def test_a_paused_arm_gets_no_requests_and_retains_its_units() -> None:
    first, second = define(1, unit="user"), define(2, name="two", unit="user")
    users = [f"user-{number}" for number in range(200)]
    before = await running(first, second)
    paused = await running(changed(first, arms=[{"name": "calm", "status": "paused"}]), second)
    again = await running(
        changed(
            changed(first, arms=[{"name": "calm", "status": "paused"}]), arms=[{"name": "calm", "status": "running"}]
        )
    )
    for user in users:
        was, now, then = (found.enrol(CHAT, {"user": user}, {}) for found in (before, paused, again))
        assert was is not None
        assert then is not None
        assert then.arm.name == was.arm.name
        if was.arm.name == "calm":
            assert now is None  # nor does the next experiment get them
        else:
            assert now is not None
            assert now.arm.name == was.arm.name


async def test_an_experiment_that_the_model_cannot_express_does_not_run_here() -> None:
    wrong = define(
        arms=[
            {"name": "a", "weight": 0.5},
            {"name": "b", "weight": 0.5, "policy": {"rules": [{"do": {"suppress": {"token_ids": [10**6]}}}]}},
        ]
    )
    experiments = await running(wrong, define(2, name="two"))
    assert "there is no token 1000000" in experiments.problems["one"]
    enrolment = experiments.enrol(CHAT, {}, {})
    assert enrolment is not None
    assert enrolment.live.stored.name == "two"
