"""Whether as many units came to each arm as should have, tested so that one may look every day.

The sequential multinomial test of Lindon and Malek (arXiv:2011.03567): how much better a Dirichlet mixture around the weights
predicts the arms of the units, one after the other, than the weights do. Under the right weights this ratio is a martingale that
starts at 1, so it ever reaches 1 / alpha with a probability of at most alpha. An average over several concentrations finds both a
gross mismatch after few units and a slight one after many.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import logsumexp
from scipy.stats import dirichlet_multinomial, multinomial

from .sums import Stratum

ALPHA = 0.01
"""At most one sound experiment in a hundred is ever taken for a broken one."""

CONCENTRATIONS = (100.0, 1_000.0, 10_000.0, 100_000.0)
"""Of the mixture, in units: the shares that it expects lie about 1 / sqrt(concentration) around the weights."""


def log_e_values(counts: ArrayLike, shares: ArrayLike) -> NDArray[np.float64]:
    """[...] the log of the evidence in counts [..., arms] against shares [arms], which sum to 1 and are above 0."""
    seen, expected = np.asarray(counts, dtype=np.int64), np.asarray(shares, dtype=np.float64)
    total = seen.sum(axis=-1)
    by_weights = multinomial.logpmf(seen, total, expected)
    mixtures = [dirichlet_multinomial.logpmf(seen, expected * concentration, total) for concentration in CONCENTRATIONS]
    return np.asarray(logsumexp(np.stack(mixtures), axis=0) - math.log(len(CONCENTRATIONS)) - by_weights)


def srm_test(arms: Sequence[str], epochs: Sequence[Stratum], alpha: float = ALPHA) -> dict[str, Any]:
    """The test over all epochs as JSON: whether it `passed`, its p-value, and the units that came and should have."""
    came = {arm: sum(epoch.units.get(arm, 0) for epoch in epochs) for arm in arms}
    expected = dict.fromkeys(arms, 0.0)
    log_e = 0.0
    strayed: list[str] = []
    for epoch in epochs:
        shares = _shares(arms, epoch.weights)
        strayed += [arm for arm in arms if arm not in shares and epoch.units.get(arm, 0)]
        counts = [epoch.units.get(arm, 0) for arm in shares]
        for arm, share in shares.items():
            expected[arm] += share * sum(counts)
        if len(shares) > 1:
            log_e += float(log_e_values(counts, list(shares.values())))
    p_value = 0.0 if strayed else math.exp(-max(log_e, 0.0))
    passed = p_value > alpha
    return {
        "passed": passed,
        "p_value": p_value,
        "alpha": alpha,
        "units": came,
        "expected": expected,
        "reason": None if passed else _reason(strayed, came, expected),
    }


def _shares(arms: Sequence[str], weights: Mapping[str, float]) -> dict[str, float]:
    """The share of each arm with a weight among the units that came to any of them."""
    given = {arm: float(weights.get(arm, 0.0)) for arm in arms}
    if any(not math.isfinite(weight) or weight < 0 for weight in given.values()):
        raise ValueError(f"weights are shares of all units, at least 0, not {dict(weights)}")
    total = sum(given.values())
    return {arm: weight / total for arm, weight in given.items() if weight > 0}


def _reason(strayed: Sequence[str], came: Mapping[str, int], expected: Mapping[str, float]) -> str:
    if strayed:
        return f"units came to {', '.join(dict.fromkeys(strayed))} in an epoch in which it had no weight"
    furthest = max(came, key=lambda arm: abs(came[arm] - expected[arm]) / math.sqrt(expected[arm] or 1.0))
    return (
        f"{furthest} has {came[furthest]:,} units where its weight makes one expect {expected[furthest]:,.0f}: units are lost or "
        "moved on the way, so that arms differ by more than their policies"
    )
