"""Intervals and tests for answers that come in clusters: several of one question say less than as many of different questions.

Means and paired differences have the sandwich interval of statsmodels (clustered by question, Student's t with as many degrees of
freedom as questions, less one): deterministic, and where each question has as many answers it is the t-interval of the questions'
means. Differences of scores are bounded, and mostly nought where two arms agree: theirs is adjusted (see `cautious`). What has no
such formula, compared at a length that is itself estimated, is bootstrapped over questions with a fixed seed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats as distributions
from statsmodels.regression.linear_model import OLS
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

ALPHA = 0.05
DRAWS = 2000
MAX_CAPS = 256
ROUNDING = 1e-9
"""Means that differ by less, relative to the largest value, are the same: more is left of additions in another order."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A figure with its 1 - alpha interval, standard error and two-sided p-value against zero; NaN where clusters are too few."""

    value: float
    low: float = math.nan
    high: float = math.nan
    error: float = math.nan
    p: float = math.nan

    @property
    def certain(self) -> bool:
        """Whether the interval is all on one side of zero."""
        return self.low > 0 or self.high < 0

    def __neg__(self) -> Estimate:
        return Estimate(-self.value, -self.high, -self.low, self.error, self.p)


def mean(values: ArrayLike, clusters: ArrayLike, alpha: float = ALPHA, bound: float | None = None) -> Estimate:
    """The mean of values [answers], by clusters [answers]; of paired differences, the mean difference.

    `bound` is the largest absolute value that a difference can have, of which the interval is then `cautious`. Without it, the
    interval of clusters that all have the same mean is a point. Raises ValueError without values.
    """
    data = np.asarray(values, np.float64)
    if not len(data):
        raise ValueError("there are no values to take a mean of")
    _, groups = np.unique(np.asarray(clusters), return_inverse=True)
    count, value = int(groups.max()) + 1, float(data.mean())
    if count < 2:
        return Estimate(value)
    sums = np.bincount(groups, data - value)
    same = bool(np.all(np.abs(sums) <= ROUNDING * max(1.0, float(np.abs(data).max())) * np.bincount(groups)))
    if same and bound is None:
        return Estimate(value, value, value, 0.0, 1.0 if abs(value) < ROUNDING else min(1.0, 2 * 0.5**count))
    if same and bound is not None:
        return cautious(value, 0.0, count, bound, alpha)
    fit = OLS(data, np.ones_like(data)).fit(cov_type="cluster", cov_kwds={"groups": groups}, use_t=True)
    error = float(fit.bse[0])
    if bound is not None:
        return cautious(value, error, count, bound, alpha)
    low, high = fit.conf_int(alpha)[0]
    return Estimate(value, float(low), float(high), error, float(fit.pvalues[0]))


def cautious(value: float, error: float, clusters: int, bound: float, alpha: float = ALPHA) -> Estimate:
    """The interval of a mean difference that cannot exceed `bound`, as if one more cluster had come out either way by all of it.

    Bonett and Price (2012) for paired shares. Where arms differ in few clusters their spread is mostly seen too small, and
    Student's interval holds the truth too seldom (87 % instead of 95 % where a tenth of 50 pairs differ, all one way); where they
    differ in none it would have no width. `error` is the standard error that was seen, and stays the estimate's own.
    """
    more = clusters + 2
    squares = (clusters - 1) * clusters * error**2 + clusters * value**2 + 2 * bound**2
    middle = clusters * value / more
    spread = math.sqrt((squares - more * middle**2) / ((more - 1) * more))
    student = distributions.t(clusters - 1)
    far = float(student.ppf(1 - alpha / 2)) * spread
    missed, least = 0.0, 0.0
    if error < ROUNDING:  # what share of others so many alike can have missed, and the p-value of the test of signs
        missed, least = 1 - alpha ** (1 / clusters), min(1.0, 2 * 0.5**clusters)
    low = max(-bound, min(value - missed * (bound + value), middle - far))
    high = min(bound, max(value + missed * (bound - value), middle + far))
    return Estimate(value, low, high, error, max(least, float(2 * student.sf(abs(middle) / spread))))


def proportion(correct: ArrayLike, clusters: ArrayLike, alpha: float = ALPHA) -> Estimate:
    """The mean of scores from 0 to 1 with an interval that stays there: Wilson's, for as many answers as the clusters are worth.

    That is p (1 - p) / error**2 of them, less the t-distribution's price for few clusters; one a cluster where all score alike.
    """
    plain = mean(correct, clusters, alpha)
    count = len(np.unique(np.asarray(clusters)))
    if count < 2:
        return plain
    spread = plain.value * (1 - plain.value)
    worth = (
        min(float(len(np.asarray(correct))), spread / plain.error**2)
        if plain.error > 0 and spread > 0
        else float(count)
    )
    worth *= (distributions.norm.ppf(alpha / 2) / distributions.t.ppf(alpha / 2, count - 1)) ** 2
    low, high = wilson(plain.value * worth, worth, alpha)
    return Estimate(plain.value, low, high, plain.error, plain.p)


def wilson(right: float, count: float, alpha: float = ALPHA) -> tuple[float, float]:
    """Wilson's interval of a share of independent answers."""
    low, high = proportion_confint(right, count, alpha=alpha, method="wilson")
    return float(low), float(high)


def holm(p: Sequence[float], alpha: float = ALPHA) -> tuple[list[bool], list[float]]:
    """Which hold when all shall, with the p-values so corrected (Holm)."""
    if not p:
        return [], []
    rejected, corrected, _, _ = multipletests(p, alpha, "holm")
    return rejected.tolist(), corrected.tolist()


def clusters_needed(
    seen: Estimate, clusters: int, effect: float, alpha: float = ALPHA, power: float = 0.8
) -> int | None:
    """How many clusters like those that were seen it takes to tell `effect` from zero; None where their spread is not known."""
    if not seen.error > 0 or effect == 0:
        return None
    quantiles = distributions.norm.ppf(1 - alpha / 2) + distributions.norm.ppf(power)
    return math.ceil(clusters * (quantiles * seen.error / abs(effect)) ** 2)


@dataclass(frozen=True)
class ScoredLengths:
    """Scores and tokens of an arm's answers, in the same order of (question, sample) as the other arm's: both [answers]."""

    scores: Floats
    tokens: Floats

    def capped(self, cap: float) -> Floats:
        """The scores with each text cut off at `cap`: the same seed gives the same tokens, so that what is longer has no answer."""
        return self.scores * (self.tokens <= cap)


@dataclass(frozen=True)
class EqualMeanComparison:
    """Two arms at the same mean number of tokens: the longer one is cut off at the cap that makes it so."""

    tokens: float
    own: float
    other: float
    difference: Estimate


def at_equal_mean(
    own: ScoredLengths, other: ScoredLengths, clusters: ArrayLike, alpha: float = ALPHA, draws: int = DRAWS
) -> EqualMeanComparison:
    """Compare at the smaller of both mean lengths; between two caps in proportion. The bootstrap finds the caps anew."""
    _, groups = np.unique(np.asarray(clusters), return_inverse=True)
    count = int(groups.max()) + 1
    caps = _caps(np.concatenate([own.tokens, other.tokens]))
    sums = [_sums(arm, groups, count, caps) for arm in (own, other)]
    sizes = np.bincount(groups, minlength=count).astype(np.float64)
    once = np.ones((1, count))
    drawn = drawings(count, draws)
    (tokens,), (first,), (second,) = _matched(once, sums, sizes)
    _, firsts, seconds = _matched(drawn, sums, sizes)
    difference = of_draws(float(first - second), firsts - seconds, count, alpha)
    return EqualMeanComparison(float(tokens), float(first), float(second), difference)


def drawings(clusters: int, draws: int = DRAWS) -> Floats:
    """How often each cluster is drawn, [draws, clusters], with a fixed seed."""
    return np.random.default_rng(0).multinomial(clusters, np.full(clusters, 1 / clusters), draws).astype(np.float64)


def of_draws(value: float, drawn: Floats, clusters: int, alpha: float = ALPHA) -> Estimate:
    """A difference of scores, from what it is in draws of clusters: as `mean` has those, with the draws' spread."""
    if clusters < 2:
        return Estimate(value)
    return cautious(value, float(drawn.std()) * math.sqrt(clusters / (clusters - 1)), clusters, 1.0, alpha)


def _caps(tokens: Floats) -> Floats:
    """Where scores and mean lengths change, or a grid of quantiles where these are too many; [caps], from 0."""
    found = np.unique(tokens)
    if len(found) > MAX_CAPS:
        found = np.unique(np.quantile(tokens, np.linspace(0, 1, MAX_CAPS)))
    return np.concatenate([[0.0], found])


def _sums(arm: ScoredLengths, groups: NDArray[np.intp], count: int, caps: Floats) -> tuple[Floats, Floats]:
    """Of each cluster and cap, the summed tokens and scores: both [clusters, caps]."""
    tokens, scores = np.zeros((count, len(caps))), np.zeros((count, len(caps)))
    np.add.at(tokens, groups, np.minimum(arm.tokens[:, None], caps))
    np.add.at(scores, groups, arm.scores[:, None] * (arm.tokens[:, None] <= caps))
    return tokens, scores


def _matched(weights: Floats, sums: Sequence[tuple[Floats, Floats]], sizes: Floats) -> tuple[Floats, Floats, Floats]:
    """For each row of weights [draws, clusters]: the common mean length, and both arms' scores at it."""
    answers = (weights @ sizes)[:, None]
    curves = [(weights @ tokens / answers, weights @ scores / answers) for tokens, scores in sums]
    common = np.minimum(curves[0][0][:, -1], curves[1][0][:, -1])
    found = [
        np.array([np.interp(at, lengths, scores) for at, lengths, scores in zip(common, *curve, strict=True)])
        for curve in curves
    ]
    return common, found[0], found[1]
