"""Doses of policies and their placebos, per token."""

from __future__ import annotations

import pytest

from forkpoint_clients.evaluate.asker import Answer
from forkpoint_clients.evaluate.doses import describe_doses, mean_dose


def test_a_dose_is_that_of_all_tokens_together() -> None:
    long = Answer(tokens=300, forkpoint={"interventions": {"suppress": {"effect": 3.0}}})
    short = Answer(tokens=100, forkpoint={"interventions": {"suppress": {"effect": 1.0}, "force": {"effect": 4.0}}})
    assert mean_dose([long, short, Answer(tokens=50)]) == 8.0 / 400
    assert mean_dose([Answer(tokens=50)]) is None


@pytest.mark.parametrize(
    ("doses", "sentence"),
    [
        ((0.2, 0.05), "a changed 0.2 tokens per token, b 0.05 (0.25 of it): so the comparison is not of equal doses."),
        ((0.2, 0.21), "a changed 0.2 tokens per token, b 0.21 (1.05 of it): equal doses, within a quarter."),
        ((0.0, 0.1), "a changed 0 tokens per token, b 0.1: so the comparison is not of equal doses."),
    ],
)
def test_both_in_a_sentence(doses: tuple[float, float], sentence: str) -> None:
    assert describe_doses("a", doses[0], "b", doses[1])[0] == sentence
