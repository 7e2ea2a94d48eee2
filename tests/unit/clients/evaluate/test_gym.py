"""Questions of reasoning-gym: which sources are valid, the answer that a text states, and its own scorers."""

from __future__ import annotations

import random
import sys

import pytest

from forkpoint_clients.evaluate import datasets, gym
from forkpoint_clients.evaluate.scorers import scorer

SAID = [
    ("So 3 a day. The answer is 28,080 pounds.", "28080", "28080"),
    ("<answer>12</answer> no: <answer> 13 </answer> of 20", "13", "13"),
    (r"Thus \boxed{7}, for 3 reasons.", "7", "7"),
    ("First.\nThe answer is 6*(98 - 54).", "6*(98 - 54)", "6*(98 - 54)"),
    ("Answer: A B C", "A B", "A B C"),
    ("no number", "3", None),
]
"""A text, the reference answer, and what the text states."""


@pytest.mark.parametrize(("text", "reference", "stated"), SAID)
def test_the_answer_that_a_text_states(text: str, reference: str, stated: str | None) -> None:
    assert gym.stated_answer(text, reference) == stated


def test_sources() -> None:
    assert gym.parse("gym:chain_sum") == gym.GymSource("chain_sum", gym.SIZE, 0)
    assert gym.parse("gym:chain_sum:30:7") == gym.GymSource("chain_sum", 30, 7)
    for wrong in ("gym:", "gym:chain_sum:many", "gym:chain_sum:1:2:3", "gym:chain_sum:-1"):
        with pytest.raises(gym.GymError, match=r"must be gym:NAME, gym:NAME:SIZE"):
            gym.parse(wrong)
    with pytest.raises(gym.GymError, match="at least 1"):
        gym.parse("gym:chain_sum:0")


def test_without_the_extra_it_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "reasoning_gym", None)
    with pytest.raises(ValueError, match=r'pip install "forkpoint-clients\[gym\]"'):
        datasets.read("gym:chain_sum:2:98765")


def test_a_question_of_another_source_cannot_be_scored() -> None:
    with pytest.raises(Exception, match="needs a question of --data gym:NAME"):
        scorer("gym").score(datasets.Item("a", ({"role": "user", "content": "?"},), "3"), "3")


def test_questions_and_scores_are_the_generators_own() -> None:
    pytest.importorskip("reasoning_gym")
    before = random.getstate()
    items = datasets.read("gym:gsm_symbolic:40:3", 5)
    assert items == datasets.read("gym:gsm_symbolic:40:3")[:5]
    assert items != datasets.read("gym:gsm_symbolic:40:4", 5)
    full, partial, answer = scorer("gym"), scorer("gym:partial"), items[0].answer["answer"]
    assert full.score(items[0], f"After 1 step it is {answer}.") == 1
    wrong = f"It is {int(answer) + 1}."
    assert full.score(items[0], wrong) == 0
    assert 0 < partial.score(items[0], wrong) < 0.1
    assert datasets.provenance("gym:gsm_symbolic:40:3")["data_seed"] == 3
    assert random.getstate() == before
