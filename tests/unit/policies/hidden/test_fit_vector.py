"""Fitting a vector: the methods' norms, and that its placebos know when labels say nothing."""

from __future__ import annotations

import numpy as np
import pytest

from forkpoint_policies.hidden.fit_vector import METHODS, Method, mean_difference
from forkpoint_policies.hidden.separation import LabelledStates, separation

SIZE, PER_QUESTION = 12, 8
DIRECTION = np.random.default_rng(5).normal(size=SIZE)
DIRECTION /= np.linalg.norm(DIRECTION)


def states(questions: range, difference: float, seed: int) -> LabelledStates:
    """Of each question eight states, each with a label at random; those with it are moved along DIRECTION."""
    random = np.random.default_rng(seed)
    question = np.repeat(np.array(questions), PER_QUESTION)
    label = random.random(len(question)) < 0.4
    noise = random.normal(size=(len(question), SIZE)) * np.linspace(0.5, 2, SIZE)
    return LabelledStates(noise + difference * np.outer(label, DIRECTION), label, question)


@pytest.mark.parametrize("method", METHODS)
def test_it_is_found_with_the_length_of_the_difference(method: Method) -> None:
    train, test = states(range(60), 3.0, 1), states(range(60, 100), 3.0, 2)
    vector = METHODS[method](train)
    assert np.linalg.norm(vector) == pytest.approx(np.linalg.norm(mean_difference(train)))
    assert np.linalg.norm(mean_difference(train)) == pytest.approx(3.0, abs=0.5)
    found = separation(
        vector, train, test, METHODS[method], LabelledStates.shuffled_within_questions, 40, permutes=True
    )
    assert found.fitted > 0.85
    assert found.beats_chance
    assert abs(found.shuffled_labels - 0.5) < 0.1
    assert found.random_direction < found.fitted - 0.1


def test_labels_at_random_are_not_told_apart() -> None:
    train, test = states(range(60), 0.0, 1), states(range(60, 100), 0.0, 2)
    found = separation(
        mean_difference(train), train, test, mean_difference, LabelledStates.shuffled_within_questions, 40,
        permutes=True,
    )  # fmt: skip
    assert not found.beats_chance


def test_where_the_labels_are_all_that_varies_they_beat_chance_though_any_direction_separates_them() -> None:
    train, test = states(range(60), 40.0, 1), states(range(60, 100), 40.0, 2)
    found = separation(
        mean_difference(train), train, test, mean_difference, LabelledStates.shuffled_within_questions, 40,
        permutes=True,
    )  # fmt: skip
    assert found.random_direction > 0.9
    assert found.beats_chance


def test_a_question_keeps_its_labels_when_they_are_shuffled_within() -> None:
    before = states(range(9), 1.0, 3)
    after = before.shuffled_within_questions(np.random.default_rng(1))
    for question in range(9):
        chosen = before.question == question
        assert before.label[chosen].sum() == after.label[chosen].sum()
    assert (before.label != after.label).any()


def test_one_label_cannot_be_fitted() -> None:
    data = states(range(4), 1.0, 3)
    with pytest.raises(ValueError, match="all states have one label"):
        mean_difference(LabelledStates(data.states, np.zeros_like(data.label), data.question))
