"""The posterior of the leading answer, against Adaptive-Consistency's formulas (arXiv:2305.11860)."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import quad

from forkpoint_server.branching.posterior import posterior_of_leader


@pytest.mark.parametrize(("first", "second"), [(1, 0), (4, 0), (3, 1), (7, 2), (5, 5), (20, 11)])
def test_beta_is_the_ratio_of_the_authors_integrals(first: int, second: int) -> None:
    """Their BetaStoppingCriteria: x^a (1-x)^b from 1/2 to 1, over the same from 0 to 1; run here."""
    upper, whole = (quad(lambda x: x**first * (1 - x) ** second, low, 1)[0] for low in (0.5, 0))
    assert posterior_of_leader([second, first], "beta") == pytest.approx(upper / whole, abs=1e-7)


def test_four_equal_answers_are_enough_and_three_are_not() -> None:
    """By hand: with a votes against none, 1 - 2^-(a + 1)."""
    assert posterior_of_leader([3], "beta") == pytest.approx(0.9375)
    assert posterior_of_leader([4], "beta") == pytest.approx(0.96875)
    assert posterior_of_leader([], "beta") == 0.0


@pytest.mark.parametrize("votes", [[2, 1, 1], [5, 2, 1], [6, 1, 1, 1], [4, 3, 2, 1, 1]])
def test_dirichlet_is_the_share_of_samples_in_which_the_leader_is_largest(votes: list[int]) -> None:
    """The authors integrate numerically; a million samples of the same posterior agree to their error."""
    shares = np.random.default_rng(1).dirichlet(np.array(votes) + 1.0, 1_000_000)
    expected = float((shares.argmax(axis=1) == 0).mean())
    assert posterior_of_leader(votes, "dirichlet") == pytest.approx(expected, abs=0.002)


def test_dirichlet_of_two_answers_is_beta_and_looks_at_five_at_most() -> None:
    assert posterior_of_leader([4, 1], "dirichlet") == posterior_of_leader([4, 1], "beta")
    assert posterior_of_leader([4, 2, 1, 1, 1, 1, 1], "dirichlet") == posterior_of_leader([4, 2, 1, 1, 1], "dirichlet")
