"""Which rules a request evaluates for the triggered analysis, and which arms they trigger."""

from __future__ import annotations

from typing import Any

from forkpoint_policies.spec import parse_policy
from forkpoint_server.experiments.shadow_rules import combine_in_shadow

from .factories import define, fired, live, three

MASK = {"rules": [{"when": {"entropy_above": 1.0}, "do": {"suppress": {"words": ["wait"]}}}]}
OBSERVED = {"rules": [{"do": {"observe": {}}}, {"when": {"entropy_above": 2.0}, "do": {"temperature": 0.5}}]}
FORCE = {"rules": [{"when": {"entropy_above": 3.0}, "do": {"force": {"text": "so"}}}]}
AGAIN: dict[str, Any] = {"rules": [{"do": {"resume": {}}}]}
BRANCH: dict[str, Any] = {"rules": [{"do": {"branch": {}}}]}


async def test_the_control_arm_evaluates_what_the_others_would_do() -> None:
    found = await live(define(arms=three(control=None, mask=MASK, observed=OBSERVED)))
    (detector,) = found.arms[0].detectors
    assert detector.compiled.policy.shadow
    assert detector.compiled.program.shadow
    numbers = [rule.number for rule in detector.compiled.program.rules]
    assert sorted(numbers) == [0, 1, 2]
    mask, heat = numbers.index(0), numbers.index(2)
    flags = [False] * 3
    assert detector.triggered([fired(*flags)]) == 0
    flags[numbers.index(1)] = True  # only observed
    assert detector.triggered([fired(*flags)]) == 0
    flags[mask] = True
    assert detector.triggered([fired(*flags)]) == 0b010
    flags[heat] = True
    assert detector.triggered([fired(False, False, False), fired(*flags)]) == 0b110
    assert detector.triggered([]) == 0
    own = found.arms[1].detectors[0]
    assert not own.compiled.policy.shadow
    assert own.triggered([fired(True)]) == 0b010
    assert found.untriggered == {}


async def test_rules_that_would_mask_each_other_alternate() -> None:
    """No other rule fires while a text is forced, and a program holds only sixteen rules."""
    many = {"rules": [{"when": {"after_token": number}, "do": {"temperature": 0.5}} for number in range(16)]}
    for other in (FORCE, many):
        found = await live(define(arms=three(control=None, mask=MASK, other=other)))
        assert [set(detector.rules) for detector in found.arms[0].detectors] == [{1}, {2}]
        assert all(detector.compiled.policy.shadow for detector in found.arms[0].detectors)
        assert found.untriggered == {}
    alone = await live(define(arms=three(control=None, forced=FORCE, same=FORCE)))
    assert [set(detector.rules) for detector in alone.arms[0].detectors] == [{1, 2}]
    two_trees = {1: parse_policy(BRANCH), 2: parse_policy({"rules": [{"do": {"branch": {"width": 2}}}]})}
    assert combine_in_shadow(two_trees) is None


async def test_a_policy_that_always_acts_is_always_triggered() -> None:
    found = await live(define(arms=three(control=None, again=AGAIN)))
    assert found.arms[0].detectors[0].triggered([fired(False)]) == 0b10
    assert found.arms[1].detectors[0].triggered([]) == 0b10
