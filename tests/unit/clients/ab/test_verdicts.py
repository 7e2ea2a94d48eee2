"""The sentence that a comparison says of each arm, and how large a difference it would have shown."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from forkpoint_clients.ab.comparison import Comparison, Difference, compare
from forkpoint_clients.ab.verdicts import UNCORRECTED, marked_points, verdicts
from forkpoint_clients.evaluate import stats
from forkpoint_clients.evaluate.stats import Estimate
from tests.unit.clients.ab.synthetic import made


def compared(*differences: Difference, interim: bool = False) -> Comparison:
    return replace(compare({}, ["none"], 0), differences=differences, interim=interim)


def difference(value: float, low: float, high: float, p_holm: float) -> Difference:
    estimate = Estimate(value, low, high, 0.03, 0.02)
    return Difference("calm", "none", 100, 100, estimate, p_holm, None, None, None, None)


@pytest.mark.parametrize(
    ("one", "kind", "said"),
    [
        (difference(-0.135, -0.2, -0.05, 0.003), "worse", "calm is right less often than none: −13.5 [−20.0, −5.0]"),
        (difference(0.135, 0.05, 0.2, 0.0001), "better", "calm is right more often than none: +13.5"),
        (difference(0.01, -0.05, 0.07, 0.6), "undecided", "No difference shown between calm and none: +1.0"),
        (difference(0.1, 0.01, 0.19, 0.09), "undecided", "p, corrected for the number of arms, does not (p = 0.090)"),
    ],
)
def test_verdicts(one: Difference, kind: str, said: str) -> None:
    (verdict,) = verdicts(compared(one))
    assert verdict.kind == kind
    assert said in verdict.sentence
    assert verdict.sentence.endswith("This run would have shown a difference of 8.5 points with 80% power.")


def test_where_no_difference_could_have_been_shown_it_says_so() -> None:
    """Two questions: 80% power would take 199.2 points, and 100 are the most that there can be."""
    estimate = Estimate(0.5, -1.0, 1.0, 0.14, 0.2)
    found = Difference("calm", "none", 2, 2, estimate, 0.2, None, None, None, None)
    (verdict,) = verdicts(compared(found))
    assert verdict.detectable == pytest.approx(1.97, abs=0.01)
    assert verdict.sentence.endswith("this run could have shown no difference, however large, with 80% power.")
    assert "points with" not in verdict.sentence


def test_interim_figures_have_no_verdict() -> None:
    (verdict,) = verdicts(compared(difference(-0.3, -0.4, -0.2, math.nan), interim=True))
    assert verdict.kind == "interim"
    assert "no verdict before the end" in verdict.sentence


def test_too_few_questions() -> None:
    found = compare({**made("none", 0.5, 9, 1)}, ["none", "calm"], 240)
    assert [verdict.sentence for verdict in verdicts(found)] == ["calm: too few questions to compare it with none."]


def test_an_interval_and_a_p_value_that_disagree_are_marked() -> None:
    assert marked_points(difference(0.1, 0.01, 0.19, 0.09)).endswith(UNCORRECTED)
    assert UNCORRECTED not in marked_points(difference(0.1, 0.01, 0.19, 0.04))
    assert UNCORRECTED not in marked_points(difference(0.1, -0.01, 0.19, 0.09))


def test_the_detectable_difference_is_found_with_its_power() -> None:
    """By simulation: of 4,000 runs with such an effect, 80% have an interval without zero."""
    count, deviation = 60, 0.4
    rng = np.random.default_rng(0)
    observed = Estimate(0.0, error=deviation / math.sqrt(count))
    effect = stats.detectable(observed, count)
    assert effect is not None
    runs = rng.normal(effect, deviation, (4000, count))
    errors = runs.std(axis=1, ddof=1) / math.sqrt(count)
    found = runs.mean(axis=1) > 2.001 * errors
    assert found.mean() == pytest.approx(0.8, abs=0.02)
    assert stats.detectable(observed, 1) is None
    assert stats.detectable(Estimate(0.0), 60) is None
