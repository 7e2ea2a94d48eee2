"""The test for sample ratio mismatch (SRM): does each arm have as many units as its weight says? Valid at any time.

The sequential multinomial test of Lindon and Malek (arXiv:2011.03567): how much better does a Dirichlet mixture around
the weights predict the arms of the units, one after another, than the weights do? Under the right weights this ratio is
a martingale that starts at 1, so the probability that it ever reaches 1 / alpha is at most alpha. Averaging over
several concentrations finds a gross mismatch after few units, and a slight one after many.
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
"""At most one sound experiment in a hundred ever fails the test."""

CONCENTRATIONS = (100.0, 1_000.0, 10_000.0, 100_000.0)
"""Of the mixture, in units: its shares lie about 1 / sqrt(concentration) around the weights."""


def log_e_values(counts: ArrayLike, shares: ArrayLike) -> NDArray[np.float64]:
    """[...] the log e-values of counts [..., arms] against shares [arms], which are positive and sum to 1."""
    seen, expected = np.asarray(counts, dtype=np.int64), np.asarray(shares, dtype=np.float64)
    total = seen.sum(axis=-1)
    by_weights = multinomial.logpmf(seen, total, expected)
    mixtures = [dirichlet_multinomial.logpmf(seen, expected * concentration, total) for concentration in CONCENTRATIONS]
    return np.asarray(logsumexp(np.stack(mixtures), axis=0) - math.log(len(CONCENTRATIONS)) - by_weights)


def srm_test(arms: Sequence[str], strata: Sequence[Stratum]) -> dict[str, Any]:
    """The test over all strata, as JSON: whether it `passed`, its p-value, and the observed and expected units.

    Raises ValueError for weights that are negative or not finite.
    """
    observed = {arm: sum(stratum.units.get(arm, 0) for stratum in strata) for arm in arms}
    expected = dict.fromkeys(arms, 0.0)
    log_e = 0.0
    misassigned: list[str] = []
    for stratum in strata:
        shares = _shares(arms, stratum.weights)
        misassigned += [arm for arm in arms if arm not in shares and stratum.units.get(arm, 0)]
        counts = [stratum.units.get(arm, 0) for arm in shares]
        for arm, share in shares.items():
            expected[arm] += share * sum(counts)
        if len(shares) > 1:
            log_e += float(log_e_values(counts, list(shares.values())))
    p_value = 0.0 if misassigned else math.exp(-max(log_e, 0.0))
    passed = p_value > ALPHA
    return {
        "passed": passed,
        "p_value": p_value,
        "alpha": ALPHA,
        "units": observed,
        "expected": expected,
        "reason": None if passed else _reason(misassigned, observed, expected),
    }


def _shares(arms: Sequence[str], weights: Mapping[str, float]) -> dict[str, float]:
    """The share of each arm with a weight among the units of all arms."""
    by_arm = {arm: float(weights.get(arm, 0.0)) for arm in arms}
    if any(not math.isfinite(weight) or weight < 0 for weight in by_arm.values()):
        raise ValueError(f"weights are shares of all units, at least 0, not {dict(weights)}")
    total = sum(by_arm.values())
    return {arm: weight / total for arm, weight in by_arm.items() if weight > 0}


def _reason(misassigned: Sequence[str], observed: Mapping[str, int], expected: Mapping[str, float]) -> str:
    if misassigned:
        return f"units came to {', '.join(dict.fromkeys(misassigned))} in an epoch in which it had no weight"
    furthest = max(observed, key=lambda arm: abs(observed[arm] - expected[arm]) / math.sqrt(expected[arm] or 1.0))
    return (
        f"{furthest} has {observed[furthest]:,} units where its weight makes one expect {expected[furthest]:,.0f}: "
        "units are lost or moved on the way, so that arms differ by more than their policies"
    )
