"""Which forks matter: do the continuations of their alternatives come to different outcomes, more than chance would have it?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import MonteCarloMethod, chi2_contingency, false_discovery_control, fisher_exact
from scipy.stats.contingency import expected_freq

MIN_EXPECTED = 5
"""Below this many expected continuations in a cell of the table, the chi-square distribution is not near enough."""

RESAMPLES = 9_999


@dataclass(frozen=True)
class Verdict:
    """`p` of one fork by itself; `q`, the false-discovery rate at which it would just be verified among the others."""

    p: float
    q: float
    verified: bool


def p_value(table: NDArray[np.int64], random: np.random.Generator, resamples: int = RESAMPLES) -> float:
    """How likely outcomes differ so much between alternatives if none mattered; counts [alternatives, outcomes].

    Fisher's exact test for two outcomes of two alternatives; else the chi-square test where every cell expects FEWEST_EXPECTED, and
    where one does not the Fisher-Freeman-Halton test by `resamples` random tables with the same margins.
    """
    met = table[:, table.any(axis=0)]
    if met.shape[1] < 2:
        return 1.0
    if met.shape == (2, 2):
        return float(fisher_exact(met).pvalue)
    if expected_freq(met).min() >= MIN_EXPECTED:
        return float(chi2_contingency(met, correction=False).pvalue)
    found = fisher_exact(met, method=MonteCarloMethod(n_resamples=resamples, rng=random)).pvalue
    return float(np.asarray(found).item())  # scipy gives an array of one number


def judge(p_values: Sequence[float], fdr: float) -> list[Verdict]:
    """Which forks of one text are verified, by Benjamini and Hochberg: a share `fdr` of these at most is expected to be false."""
    if not p_values:
        return []
    corrected = np.atleast_1d(false_discovery_control(p_values)).tolist()
    return [Verdict(p, q, q <= fdr) for p, q in zip(p_values, corrected, strict=True)]
