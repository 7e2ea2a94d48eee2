"""Which experiment and arm a request falls under, and what is evaluated in it for the triggered analysis."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

import numpy as np
import pytest
from sqlalchemy import create_engine

from forkpoint_policies.spec import InputError, parse_policy
from forkpoint_server.experiments.assignment import hash_of, point_of, salt_of
from forkpoint_server.experiments.live import Enrolment
from forkpoint_server.experiments.service import Experiments
from forkpoint_server.experiments.shadow_rules import together
from forkpoint_server.store.experiments import Definitions, Stored
from forkpoint_server.traces.trace import Profile

from .factories import HALVES, REGISTRY, changed, compile_one, define, live

CHAT = "/v1/chat/completions"
BRANCH: dict[str, Any] = {"rules": [{"do": {"branch": {}}}]}
MASK = {"rules": [{"when": {"entropy_above": 1.0}, "do": {"suppress": {"words": ["wait"]}}}]}
OBSERVED = {"rules": [{"do": {"observe": {}}}, {"when": {"entropy_above": 2.0}, "do": {"temperature": 0.5}}]}
FORCE = {"rules": [{"when": {"entropy_above": 3.0}, "do": {"force": {"text": "so"}}}]}
AGAIN: dict[str, Any] = {"rules": [{"do": {"resume": {}}}]}


async def running(*stored: Stored) -> Experiments:
    found = Experiments(create_engine("sqlite://"), REGISTRY, compile_one, 16)
    await found._take(Definitions(1, stored, {}))
    return found


def three(**policies: Any) -> list[dict[str, Any]]:
    return [{"name": name, "policy": policy, "weight": 0.2} for name, policy in policies.items()]


def fired(*columns: bool) -> Profile:
    """A choice of two tokens at whose second these rules fired, in the program's order."""
    single, per_rule, no = np.zeros(2, np.float32), np.zeros((2, len(columns)), np.float32), np.zeros(2, np.bool_)
    return Profile(
        position=np.arange(2), confidence=single, held=per_rule, placed=per_rule, entropy=single, top_probability=single,
        in_reasoning=no, left_alone=no, forced=no, refused=no, fired=np.array([[False] * len(columns), columns]), effect=per_rule,
        alternatives={},
    )  # fmt: skip


async def test_a_unit_keeps_its_arm_and_has_that_of_the_published_hash() -> None:
    experiments = await running(define(unit="user"))
    for user in (f"user-{number}" for number in range(300)):
        places = [experiments.enrol(CHAT, {"user": user}, {}) for _ in range(2)]
        point = point_of(hash_of(salt_of("one", "s"), user))
        assert [place and place.arm.name for place in places] == ["control" if point < 0.5 else "calm"] * 2


async def test_units(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without its unit a request is in no experiment."""
    by_user, by_header = await running(define(unit="user")), await running(define(unit="X-Account"))
    assert by_user.enrol(CHAT, {}, {}) is None
    assert by_user.enrol(CHAT, {"user": ""}, {}) is None
    assert by_user.enrol(CHAT, {"user": 7}, {}) is None
    assert by_user.enrol("/v1/messages", {"metadata": {"user_id": "a"}}, {}) is not None
    assert by_header.enrol(CHAT, {"user": "a"}, {}) is None
    assert by_header.enrol(CHAT, {}, {"x-account": "a"}) is not None
    by_request = await running(define())
    arms = Counter(place.arm.name for _ in range(400) if (place := by_request.enrol(CHAT, {}, {})) is not None)
    assert min(arms["control"], arms["calm"]) > 140
    by_slice = await running(define(unit="slice", slice_seconds=60))
    found = []
    for now in range(0, 60 * 60, 20):
        monkeypatch.setattr(time, "time", lambda now=now: 1_000_000_020.0 + now)
        place = by_slice.enrol(CHAT, {}, {})
        assert place is not None
        found.append(place.arm.name)
    assert found[::3] == found[1::3] == found[2::3]
    assert set(found) == {"control", "calm"}


async def test_precedence_and_layers() -> None:
    """Higher priority first, then the older one; what is outside of one experiment's arms or traffic falls to the next."""
    old = define(1, name="old", unit="user", layer="l", traffic=[0, 0.5])
    new = define(2, name="new", unit="user", layer="l", traffic=[0.5, 1])
    urgent = define(3, name="urgent", unit="user", priority=1, arms=[{**arm, "weight": 0.1} for arm in HALVES])
    users = [f"user-{number}" for number in range(2000)]

    async def shares(*stored: Stored) -> dict[str, set[str]]:
        experiments = await running(*stored)
        found: dict[str, set[str]] = {}
        for user in users:
            place = experiments.enrol(CHAT, {"user": user}, {})
            found.setdefault(place.live.stored.name if place else "", set()).add(user)
        return found

    both, all_three = await shares(old, new), await shares(old, new, urgent)
    assert set(both) == {"old", "new"}
    assert len(both["old"]) == pytest.approx(1000, abs=80)
    assert len(all_three["urgent"]) == pytest.approx(400, abs=60)
    assert all_three["old"] == both["old"] - all_three["urgent"]
    assert (await shares(old, new, changed(urgent, status="paused"))) == both
    overlapping = define(4, name="late", unit="user")
    assert set(await shares(overlapping, define(5, name="later", unit="user"))) == {"late"}


async def test_a_paused_arm_gets_nothing_and_its_units_stay_its_own() -> None:
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


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/responses", {}),
        (CHAT, {"n": 17}),
        (CHAT, {"use_beam_search": True}),
        ("/v1/completions", {"prompt": ["a", "b"]}),
        ("/v1/responses", {"background": True}),
    ],
)
async def test_a_request_that_some_arm_could_not_have_is_in_none(path: str, body: dict[str, Any]) -> None:
    """Whatever arm it would have been in; an arm that is paused is no obstacle."""
    arms = [{"name": "control", "weight": 0.5}, {"name": "grown", "policy": BRANCH, "weight": 0.5}]
    branching = await running(define(arms=arms))
    assert all(branching.enrol(path, body, {}) is None for _ in range(20))
    assert branching.enrol(CHAT, {"n": 4}, {}) is not None
    paused = await running(define(arms=[arms[0], {**arms[1], "status": "paused"}]))
    alone = "use_beam_search" in body or "background" in body
    assert any(paused.enrol(path, body, {}) for _ in range(40)) is not alone
    shadow = await running(define(arms=[arms[0], {**arms[1], "shadow": True}]))
    assert any(shadow.enrol(path, body, {}) for _ in range(40)) is not alone


async def test_an_experiment_that_the_model_cannot_express_does_not_run_here() -> None:
    wrong = define(
        arms=[
            {"name": "a", "weight": 0.5},
            {"name": "b", "weight": 0.5, "policy": {"rules": [{"do": {"suppress": {"token_ids": [10**6]}}}]}},
        ]
    )
    experiments = await running(wrong, define(2, name="two"))
    assert "there is no token 1000000" in experiments.problems["one"]
    place = experiments.enrol(CHAT, {}, {})
    assert place is not None
    assert place.live.stored.name == "two"


async def test_the_control_arm_evaluates_what_the_others_would_do() -> None:
    found = await live(define(arms=three(control=None, mask=MASK, observed=OBSERVED)))
    (watch,) = found.arms[0].watches
    assert watch.compiled.policy.shadow
    assert watch.compiled.program.shadow
    numbers = [rule.number for rule in watch.compiled.program.rules]
    assert sorted(numbers) == [0, 1, 2]
    mask, heat = numbers.index(0), numbers.index(2)
    flags = [False] * 3
    assert watch.triggered([fired(*flags)]) == 0
    flags[numbers.index(1)] = True  # only observed
    assert watch.triggered([fired(*flags)]) == 0
    flags[mask] = True
    assert watch.triggered([fired(*flags)]) == 0b010
    flags[heat] = True
    assert watch.triggered([fired(False, False, False), fired(*flags)]) == 0b110
    assert watch.triggered([]) == 0
    own = found.arms[1].watches[0]
    assert not own.compiled.policy.shadow
    assert own.triggered([fired(True)]) == 0b010
    assert found.untriggered == {}


async def test_rules_that_would_hide_each_other_take_turns() -> None:
    """Where a text is forced nothing else fires; and sixteen rules fit into one program."""
    many = {"rules": [{"when": {"after_token": number}, "do": {"temperature": 0.5}} for number in range(16)]}
    for other in (FORCE, many):
        found = await live(define(arms=three(control=None, mask=MASK, other=other)))
        assert [set(watch.rules) for watch in found.arms[0].watches] == [{1}, {2}]
        assert all(watch.compiled.policy.shadow for watch in found.arms[0].watches)
        assert found.untriggered == {}
    alone = await live(define(arms=three(control=None, forced=FORCE, same=FORCE)))
    assert [set(watch.rules) for watch in alone.arms[0].watches] == [{1, 2}]
    two_trees = {1: parse_policy(BRANCH), 2: parse_policy({"rules": [{"do": {"branch": {"width": 2}}}]})}
    assert together(two_trees) is None


async def test_what_acts_always_is_always_triggered() -> None:
    found = await live(define(arms=three(control=None, again=AGAIN)))
    assert found.arms[0].watches[0].triggered([fired(False)]) == 0b10
    assert found.arms[1].watches[0].triggered([]) == 0b10


async def test_an_acting_control_shows_no_triggers() -> None:
    found = await live(define(arms=three(placebo="nowait.placebo", nowait="nowait")))
    assert list(found.untriggered) == ["nowait"]
    shadow = [
        {"name": "shadow", "policy": "nowait", "shadow": True, "weight": 0.4},
        {"name": "nowait", "policy": "nowait", "weight": 0.4},
    ]
    same = await live(define(arms=shadow))
    assert same.untriggered == {}
    assert set(same.arms[0].watches[0].rules) == {0, 1}
    assert set(same.arms[1].watches[0].rules) == {1}


async def test_arms_without_policies() -> None:
    found = await live(define(arms=three(a=None, b=None)))
    assert any(isinstance(found.enrol(CHAT, {}, {}, 16), Enrolment) for _ in range(20))
    assert found.arms[0].watches[0].triggered([fired()]) == 0


async def test_what_is_wrong_with_a_policy_is_said_when_it_is_compiled() -> None:
    with pytest.raises(InputError, match="there is no token"):
        await live(define(arms=three(a=None, b={"rules": [{"do": {"suppress": {"token_ids": [10**6]}}}]})))
