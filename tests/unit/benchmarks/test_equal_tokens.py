"""The benchmarks compare trees with baselines of equal cost: independent samples, or a plain cap."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.one_answer import cap_for
from benchmarks.trees import Outcome, beyond, majority, of_samples


def test_between_two_numbers_of_samples_in_proportion_and_never_beyond_what_was_sampled() -> None:
    samples = np.array([[[0.2, 0.1], [0.6, 0.3]], [[0.4, 0.1], [0.8, 0.5]]])  # two puzzles, one or two samples
    own, each = np.array([[1.0, 0.5], [0.5, 0.5]]), np.array([100.0, 100.0])
    every = np.array([[0, 1]])
    counts, differences = beyond(own, np.array([140.0, 160.0]), samples, each, every)
    assert counts == pytest.approx([1.5])
    assert differences[0] == pytest.approx([0.75 - 0.5, 0.5 - 0.25])
    assert beyond(own, np.array([900.0, 900.0]), samples, each, every)[0] == [2.0]
    assert beyond(own, np.array([10.0, 10.0]), samples, each, every)[0] == [1.0]
    twice = beyond(own, np.array([100.0, 200.0]), samples, each, np.array([[0, 0], [1, 1]]))
    assert twice[0].tolist() == [1.0, 2.0], "computed anew in each resample of puzzles"


def test_of_samples_is_exact_for_the_share_that_pass() -> None:
    outcome = Outcome((True, False, False, False), ("a", "b", "b", None), 400)
    passed, voted = of_samples(outcome, 2, np.random.default_rng(0))
    assert passed == pytest.approx(0.5)
    assert 0.2 < voted < 0.5, "a tie is shared, and an invalid answer has no vote"
    assert majority((True, False), ("a", "b")) == 0.5
    assert majority((False,), (None,)) == 0.0


def test_a_cap_yields_the_requested_mean() -> None:
    lengths = np.array([10.0, 20.0, 30.0])
    assert cap_for(15.0, lengths) in (17, 18)
    assert cap_for(20.0, lengths) is None
