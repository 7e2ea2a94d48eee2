"""How probable it is, after some votes, that the answer which leads is the one that most answers would give.

Adaptive-Consistency (arXiv:2305.11860): the shares of the answers have a uniform prior, and each vote is a sample.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from scipy.integrate import quad
from scipy.special import betainc, gammainc, gammaln

MAX_ANSWERS = 5
"""How many of the commonest answers `dirichlet` compares, as the authors' code does."""


def posterior_of_leader(votes: Sequence[int], posterior: Literal["beta", "dirichlet"]) -> float:
    """The probability that the answer with the most votes has the largest share; `votes` are those of each answer.

    `beta` compares it with the second alone: P(x > 1/2) under Beta(a + 1, b + 1). `dirichlet` compares it with each of
    the other commonest ones. 0 without a vote.
    """
    most = sorted(votes, reverse=True)
    if not most:
        return 0.0
    if posterior == "beta" or len(most) < 3:
        first, second = (*most, 0)[:2]
        return float(betainc(second + 1, first + 1, 0.5))
    return _largest_of(most[:MAX_ANSWERS])


def _largest_of(votes: Sequence[int]) -> float:
    """P(the first share is the largest) under Dirichlet(votes + 1): its shares are independent Gammas, normalised."""
    first, *others = (number + 1.0 for number in votes)
    high = first + 12.0 * np.sqrt(first) + 40.0  # beyond it the first Gamma has no mass

    def density(x: float) -> float:
        own = float(np.exp((first - 1.0) * np.log(x) - x - gammaln(first))) if x > 0 else 0.0
        return own * float(np.prod([gammainc(other, x) for other in others]))

    return float(quad(density, 0.0, high, points=[first], limit=200)[0])
