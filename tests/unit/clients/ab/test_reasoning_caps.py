"""Caps beside early exits: which arms have one, how long it is, and on which questions it is compared."""

from __future__ import annotations

from forkpoint_clients.ab.arms import Arm, arm
from forkpoint_clients.ab.comparison import ScoredAnswer
from forkpoint_clients.ab.reasoning_caps import CapArm, choose, compare_with_caps, early_exits, halves
from forkpoint_clients.ab.run import RunSpec
from forkpoint_clients.evaluate.asker import Answer, Choice
from forkpoint_clients.evaluate.datasets import Item
from forkpoint_clients.evaluate.journal import Unit

ITEMS = [Item(f"q{number}", ({"role": "user", "content": str(number)},), "4") for number in range(20)]
MINE = arm('mine={"rules": [{"when": {"entropy_below": 0.1}, "do": {"end_reasoning": {}}}]}')


def run(*arms: Arm) -> RunSpec:
    return RunSpec("http://x/v1", "m", "d", ITEMS, arms)


def answer(tokens: int, reasoning: int | None, right: float = 1.0) -> ScoredAnswer:
    return ScoredAnswer(Answer((Choice("4", "", "stop"),), tokens, reasoning), right)


def test_early_exits_have_a_cap_and_nothing_else_has() -> None:
    names = ("none", "deer", "deer.placebo", "reasoning-cap", "nowait", "alpha-one", "think-brake", "elsewhere")
    arms = [
        *map(arm, names),
        MINE,
        arm('shadow={"shadow": true, "rules": [{"do": {"probe": {"probability_above": 0.9}}}]}'),
    ]
    assert early_exits(arms) == ["deer", "think-brake", "mine"]


def test_the_cap_has_the_mean_of_the_exit_on_the_first_half() -> None:
    """Reasoning of 50 or 150 tokens and 10 after it; the exit spends 90: a cap at 110 has (50 + 110) / 2 + 10."""
    spec = run(arm("none"), MINE)
    answers = {}
    for number, item in enumerate(ITEMS):
        later = item in halves(ITEMS)[1]
        reasoning = 9000 if later else (50, 150)[number % 2]  # the second half is not looked at
        answers[Unit(item.id, 0, "none")] = answer(reasoning + 10, reasoning).answer
        answers[Unit(item.id, 0, "mine")] = answer(5 if later else 90, None).answer
    assert choose(answers, spec) == [CapArm("mine", 110)]
    assert choose(answers, run(MINE)) == []  # nothing says how long answers are without it
    assert choose({}, spec) == []
    assert CapArm("mine", 110).name == "mine: reasoning-cap 110"
    assert CapArm("mine", 110).policy == {"use": "reasoning-cap", "with": {"tokens": 110}}


def test_an_exit_is_compared_with_its_cap_in_pairs() -> None:
    cap = CapArm("mine", 110)
    answers = {Unit(item.id, 0, "mine"): answer(90, 80, 1.0) for item in ITEMS}
    answers |= {Unit(item.id, 0, cap.name): answer(100, 90, float(item.id != "q19")) for item in halves(ITEMS)[1]}
    (found,) = compare_with_caps(answers, [cap])
    assert (found.arm, found.cap, found.pairs, found.questions) == ("mine", 110, 10, 10)
    assert found.correct is not None
    assert found.correct.value == 0.1
    assert found.tokens is not None
    assert found.tokens.value == -10
    (nothing,) = compare_with_caps({}, [cap])
    assert (nothing.pairs, nothing.correct) == (0, None)
