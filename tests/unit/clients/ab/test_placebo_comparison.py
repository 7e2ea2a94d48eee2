"""Nothing is concluded of a policy beyond a placebo that has too little of its dose."""

from __future__ import annotations

import pytest

from forkpoint_clients.ab.comparison import ScoredAnswer
from forkpoint_clients.ab.placebo_comparison import compare_with_placebos
from forkpoint_clients.evaluate.asker import Answer, Choice
from forkpoint_clients.evaluate.journal import Unit

PAIRS = {"nowait.placebo": "nowait"}


def answers(dose: float, placebo_dose: float, placebo_score: float = 1.0) -> dict[Unit, ScoredAnswer]:
    def answer(dose: float, score: float) -> ScoredAnswer:
        forkpoint = {"interventions": {"suppress": {"fired": 1, "effect": 100 * dose}}}
        return ScoredAnswer(Answer((Choice("4", "", "stop"),), 100, forkpoint=forkpoint), score)

    found = {Unit(f"q{number}", 0, "nowait"): answer(dose, 0.0) for number in range(40)}
    return found | {
        Unit(f"q{number}", 0, "nowait.placebo"): answer(placebo_dose, placebo_score) for number in range(40)
    }


@pytest.mark.parametrize(
    ("doses", "ratio", "conclusion"),
    [
        ((0.1, 0.02), 0.2, "no conclusion: the placebo has 0.20 of its dose, less than 0.8"),
        ((0.1, 0.079), 0.79, "no conclusion: the placebo has 0.79 of its dose, less than 0.8"),
        ((0.1, 0.081), 0.81, "beyond its placebo: −100.0"),
        ((0.1, 0.3), 3.0, "beyond its placebo: −100.0"),
        ((0.0, 0.1), None, "no conclusion: the policy changed no probabilities, so that it has no dose to compare"),
    ],
)
def test_a_conclusion_needs_the_dose(doses: tuple[float, float], ratio: float | None, conclusion: str) -> None:
    (found,) = compare_with_placebos(answers(*doses), PAIRS)
    assert (found.arm, found.placebo, found.pairs, found.questions) == ("nowait", "nowait.placebo", 40, 40)
    assert found.ratio == (None if ratio is None else pytest.approx(ratio))
    assert found.conclusion.startswith(conclusion)
    assert found.correct is not None
    assert found.correct.value == -1.0


def test_no_difference_is_no_conclusion_of_one() -> None:
    (found,) = compare_with_placebos(answers(0.1, 0.1, placebo_score=0.0), PAIRS)
    assert found.conclusion.startswith("nothing seen beyond it: +0.0")
    assert compare_with_placebos({}, PAIRS)[0].conclusion == "no conclusion: the doses are not known"
    assert compare_with_placebos({}, {}) == []
