"""`mi-peaks` finds planted peaks at connectors, and not those at any rare token."""

from __future__ import annotations

import numpy as np
import pytest

from forkpoint_clients.evaluate.asker import Answer, Choice
from forkpoint_clients.findings.catalog import mi_peaks
from forkpoint_clients.findings.catalog.mi_peaks import InformedText
from forkpoint_clients.findings.reading import ScoredChoices
from tests.unit.clients.findings.synthetic import Answers, words

LENGTH = 200


def answers(at_connectors: float, at_names: float, seed: int = 0) -> Answers:
    """Answers with a connector and a name at every 20th token each, and at four of five of them this much information
    instead of 1.
    """
    random, found = np.random.default_rng(seed), {}
    for number in range(30):
        tokens = [" Wait" if at % 20 == 5 else " Ann" if at % 20 == 15 else f" {at % 7}" for at in range(LENGTH)]
        mean = {" Wait": at_connectors, " Ann": at_names}
        values = [(mean.get(token, 1.0) if random.random() < 0.8 else 1.0) + random.normal(0, 0.1) for token in tokens]
        stored = {
            "tokens": tokens,
            "positions": list(range(LENGTH)),
            "entropies": [0.1] * LENGTH,
            "in_reasoning": [1] * (LENGTH - 10) + [0] * 10,
        }
        forkpoint = {"trace": stored, "threshold": 0.5, "mutual_information": values[: LENGTH - 5]}
        answer = Answer((Choice("3", "so", "stop"),), LENGTH, LENGTH, 0.1, forkpoint, "id")
        found[f"q{number}", 0] = ScoredChoices(answer, (1.0,))
    return found


@pytest.mark.parametrize(
    ("at_connectors", "at_names", "word", "excess"),
    [
        (3.0, 1.0, "reproduced", 0.8),
        (3.0, 3.0, "undecided", 0.0),
        (1.0, 3.0, "not reproduced", -0.8),
        (1.0, 1.0, "undecided", 0.0),
    ],
)
def test_peaks_are_compared_with_other_rare_tokens(
    at_connectors: float, at_names: float, word: str, excess: float
) -> None:
    found = mi_peaks.conclude(answers(at_connectors, at_names))
    assert words(found) == [word]
    assert found.claims[0].parts[0].estimate.value == pytest.approx(excess, abs=0.05)
    assert "100% of the connectors" in found.notes[0]


def test_only_the_reasoning_counts_as_far_as_states_were_read() -> None:
    (text, *_), (scored, *_) = list(mi_peaks.informed(answers(3.0, 1.0))), answers(3.0, 1.0).values()
    assert len(text.tokens) == LENGTH - 10
    assert text.information.tolist() == scored.answer.forkpoint["mutual_information"][: LENGTH - 10]  # type: ignore[index]
    assert text.connectors.sum() == 10


def test_a_peak_is_an_outlier_of_its_text() -> None:
    text = InformedText("q", ("a",) * 8, np.zeros(8, np.bool_), np.array([1.0, 2, 3, 4, 5, 6, 7, 13]))
    assert text.peaks.tolist() == [False] * 7 + [True]  # above 6.25 + 1.5 * 3.5
    same = InformedText("q", ("a",) * 4, np.zeros(4, np.bool_), np.ones(4))
    assert not same.peaks.any()
    assert same.standardized.tolist() == [0.0] * 4


def test_without_states_nothing_is_concluded() -> None:
    assert mi_peaks.conclude({}).claims == ()
