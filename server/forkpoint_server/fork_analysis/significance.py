"""Which forks matter: do the outcomes of their alternatives differ more than chance explains?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import MonteCarloMethod, chi2_contingency, false_discovery_control, fisher_exact
from scipy.stats.contingency import expected_freq

MIN_EXPECTED = 5
"""With fewer expected continuations in a cell of the table, the chi-square approximation is not accurate enough."""

RESAMPLES = 9_999


@dataclass(frozen=True)
class Verdict:
    """`p` is the fork's own p-value, `q` the lowest false-discovery rate at which it is verified among the others."""

    p: float
    q: float
    verified: bool


NO_FORK = Verdict(1.0, 1.0, verified=False)
"""Where there is only one way to continue."""


def p_value(table: NDArray[np.int64], random: np.random.Generator, resamples: int = RESAMPLES) -> float:
    """The probability of outcomes at least as different if the alternative made no difference.

    `table` holds counts, [alternatives, outcomes]. Fisher's exact test for two outcomes of two alternatives; otherwise
    the chi-square test if every cell expects MIN_EXPECTED, else the Fisher-Freeman-Halton test on `resamples` random
    tables with the same margins.
    """
    observed = table[:, table.any(axis=0)]
    if observed.shape[1] < 2:
        return 1.0
    if observed.shape == (2, 2):
        return float(fisher_exact(observed).pvalue)
    if expected_freq(observed).min() >= MIN_EXPECTED:
        return float(chi2_contingency(observed, correction=False).pvalue)
    resampled = fisher_exact(observed, method=MonteCarloMethod(n_resamples=resamples, rng=random)).pvalue
    return float(np.asarray(resampled).item())  # scipy gives an array of one number


def judge(p_values: Sequence[float], fdr: float) -> list[Verdict]:
    """Which forks of one text are verified at this false-discovery rate, by Benjamini and Hochberg's procedure."""
    if not p_values:
        return []
    corrected = np.atleast_1d(false_discovery_control(p_values)).tolist()
    return [Verdict(p, q, q <= fdr) for p, q in zip(p_values, corrected, strict=True)]
