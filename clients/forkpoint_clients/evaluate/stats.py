"""Intervals and tests for clustered answers: several answers to one question say less than as many to different
questions.

Means and paired differences have the sandwich interval of statsmodels, clustered by question, with Student's t and one
degree of freedom less than there are questions. It is deterministic, and with equally many answers per question it is
the t-interval of the questions' means. Differences of scores are bounded, and mostly zero where two arms agree: their
interval allows for a question unlike those observed (see `bounded_difference`). Comparisons at an estimated length have
no such formula and are bootstrapped over questions with a fixed seed.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats as distributions
from statsmodels.regression.linear_model import OLS
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import confint_proportions_2indep, proportion_confint

ALPHA = 0.05
RESAMPLES = 2000
MAX_CAPS = 256
SIMULATIONS, MAX_CLUSTERS = 4096, 10**8
"""Repetitions with which the number of clusters needed is simulated, and the largest number that is tried."""

ROUNDING = 1e-9
"""Means that differ by less, relative to the largest value, are equal: the order of additions changes more."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A figure with its 1 - alpha interval, standard error and two-sided p-value against zero; NaN with too few
    clusters.

    `unseen` is the root of the squares of unseen clusters that the interval of a bounded difference allows for, else 0.
    """

    value: float
    low: float = math.nan
    high: float = math.nan
    error: float = math.nan
    p: float = math.nan
    unseen: float = 0.0

    @property
    def excludes_zero(self) -> bool:
        """Whether the whole interval is on one side of zero."""
        return self.low > 0 or self.high < 0


def mean(values: ArrayLike, clusters: ArrayLike, alpha: float = ALPHA, bound: float | None = None) -> Estimate:
    """The mean of values [answers] in clusters [answers]; of paired differences, the mean difference.

    `bound` is the largest possible absolute difference; with it, the interval is that of `bounded_difference`. Without
    it, the interval of clusters that all have the same mean is a point. Raises ValueError without values.
    """
    data = np.asarray(values, np.float64)
    if not len(data):
        raise ValueError("there are no values to take a mean of")
    _, groups = np.unique(np.asarray(clusters), return_inverse=True)
    count, value = int(groups.max()) + 1, float(data.mean())
    if count < 2:
        return Estimate(value)
    unseen = None if bound is None else bound * unseen_share(data, groups)
    sums = np.bincount(groups, data - value)
    same = bool(np.all(np.abs(sums) <= ROUNDING * max(1.0, float(np.abs(data).max())) * np.bincount(groups)))
    if same and bound is None:
        return Estimate(value, value, value, 0.0, 1.0 if abs(value) < ROUNDING else min(1.0, 2 * 0.5**count))
    if same and bound is not None:
        return bounded_difference(value, 0.0, count, bound, alpha)
    fit = OLS(data, np.ones_like(data)).fit(cov_type="cluster", cov_kwds={"groups": groups}, use_t=True)
    error = float(fit.bse[0])
    if bound is not None:
        return bounded_difference(value, error, count, bound, alpha, unseen)
    low, high = fit.conf_int(alpha)[0]
    return Estimate(value, float(low), float(high), error, float(fit.pvalues[0]))


def correlation_within(values: Floats, groups: NDArray[np.intp]) -> float:
    """The intraclass correlation of values [n] in groups [n], from 0 to 1, by one-way analysis of variance.

    1 if no group has two values, or if all values are equal: then nothing shows that values of a group are independent.
    """
    sizes = np.bincount(groups).astype(np.float64)
    count, total = len(sizes), len(values)
    if count < 2 or total == count:
        return 1.0
    means = np.bincount(groups, values) / sizes
    between = float(sizes @ (means - values.mean()) ** 2) / (count - 1)
    within = float(np.square(values - means[groups]).sum()) / (total - count)
    size = (total - float(sizes @ sizes) / total) / (count - 1)
    spread = between + (size - 1) * within
    return min(1.0, max(0.0, (between - within) / spread)) if spread > ROUNDING**2 else 1.0


def unseen_share(values: Floats, groups: NDArray[np.intp]) -> float:
    """The root of the squares of unseen groups that `bounded_difference` allows for, as a share of its bound.

    Where the values of a group are alike, or single, one group in either direction differs by all of the bound (as
    Bonett and Price, 2012, for paired shares): sqrt(2). Where they are independent, one differs by one value's share of
    a group's mean: 1 / (values a group). In between, both count by the correlation within the groups.
    """
    correlation = correlation_within(values, groups)
    single = (int(groups.max()) + 1) / len(values)
    return math.hypot(math.sqrt(2) * correlation, (1 - correlation) * single)


def bounded_difference(
    value: float, error: float, clusters: int, bound: float, alpha: float = ALPHA, unseen: float | None = None
) -> Estimate:
    """The interval of a mean difference that cannot exceed `bound`, with the squares of unseen clusters added.

    If arms differ in few clusters, the observed spread is mostly too small, and Student's interval covers the truth
    too rarely (87 % instead of 95 % if a tenth of 50 pairs differ, all one way); if they differ in none, it has no
    width. `unseen` is the root of these squares, by default that of one extreme cluster in either direction; with
    several samples in a cluster it is less, see `unseen_share`. `error` is the observed standard error; the estimate
    keeps it.
    """
    unseen = math.sqrt(2) * bound if unseen is None else unseen
    spread = math.sqrt(error**2 + unseen**2 / (clusters * (clusters - 1)))
    student = distributions.t(clusters - 1)
    half_width = float(student.ppf(1 - alpha / 2)) * spread
    missed, min_p = 0.0, 0.0
    if error < ROUNDING:  # the share of other clusters that so many equal ones can have missed; the sign test's p-value
        missed, min_p = 1 - alpha ** (1 / clusters), min(1.0, 2 * 0.5**clusters)
    low = max(-bound, min(value - missed * (bound + value), value - half_width))
    high = min(bound, max(value + missed * (bound - value), value + half_width))
    p = max(min_p, float(2 * student.sf(abs(value) / spread)))
    return Estimate(value, low, high, error, p, unseen)


def detectable(observed: Estimate, clusters: int, alpha: float = ALPHA, power: float = 0.8) -> float | None:
    """The difference that an interval as wide as the observed one excludes zero for, with this power.

    None if the spread is unknown. By the usual approximation with Student's t for both quantiles.
    """
    if clusters < 2 or math.isnan(observed.error):
        return None
    student = distributions.t(clusters - 1)
    spread = math.sqrt(observed.error**2 + observed.unseen**2 / (clusters * (clusters - 1)))
    return float((student.ppf(1 - alpha / 2) + student.ppf(power)) * spread) if spread > 0 else None


def proportion(correct: ArrayLike, clusters: ArrayLike, alpha: float = ALPHA) -> Estimate:
    """The mean of scores from 0 to 1 [answers] with Wilson's interval, which stays in 0 to 1, for the effective sample
    size.

    That is p (1 - p) / error**2 answers, reduced by the t-distribution's factor for few clusters; one answer per
    cluster if all scores are equal.
    """
    plain = mean(correct, clusters, alpha)
    count = len(np.unique(np.asarray(clusters)))
    if count < 2:
        return plain
    spread = plain.value * (1 - plain.value)
    effective_size = (
        min(float(len(np.asarray(correct))), spread / plain.error**2)
        if plain.error > 0 and spread > 0
        else float(count)
    )
    effective_size *= (distributions.norm.ppf(alpha / 2) / distributions.t.ppf(alpha / 2, count - 1)) ** 2
    low, high = wilson(plain.value * effective_size, effective_size, alpha)
    return Estimate(plain.value, low, high, plain.error, plain.p)


def wilson(right: float, count: float, alpha: float = ALPHA) -> tuple[float, float]:
    """Wilson's interval of the share of `right` among `count` independent answers."""
    low, high = proportion_confint(right, count, alpha=alpha, method="wilson")
    return float(low), float(high)


@dataclass(frozen=True)
class TwoShares:
    """Two shares compared: the first less the second, and the first as a multiple of the second."""

    difference: Estimate
    ratio: Estimate


def two_shares(
    first: ArrayLike, second: ArrayLike, clusters: tuple[ArrayLike, ArrayLike], alpha: float = ALPHA
) -> TwoShares:
    """Compare the shares of two groups of yes or no, [n] and [m] from 0 to 1, in `clusters` that both share.

    The intervals hold with few events, too: Newcombe's of the difference, and that of the logarithm of the ratio with
    half an event added to each share. Both are for the effective numbers of answers, as in `proportion`; of a share
    without events, or with nothing else, all answers count. Raises ValueError without values of either.
    """
    count = len(np.unique(np.concatenate([np.asarray(one) for one in clusters])))
    groups = [(np.asarray(first, np.float64), clusters[0]), (np.asarray(second, np.float64), clusters[1])]
    if not all(len(values) for values, _ in groups):
        raise ValueError("there are no values to take a share of")
    shares = [float(values.mean()) for values, _ in groups]
    difference = shares[0] - shares[1]
    ratio = shares[0] / shares[1] if shares[1] else (math.inf if shares[0] else math.nan)
    if count < 2:
        return TwoShares(Estimate(difference), Estimate(ratio))
    student = (distributions.norm.ppf(alpha / 2) / distributions.t.ppf(alpha / 2, count - 1)) ** 2
    sizes = [student * _independent(values, owners) for values, owners in groups]
    events = [share * size for share, size in zip(shares, sizes, strict=True)]
    table = events[0], sizes[0], events[1], sizes[1]
    smoothed = [(event + 0.5) / (size + 1) for event, size in zip(events, sizes, strict=True)]
    error = math.sqrt(sum(share * (1 - share) * student / size for share, size in zip(smoothed, sizes, strict=True)))
    return TwoShares(
        Estimate(difference, *_floats(confint_proportions_2indep(*table, "newcomb", "diff", alpha)), error),
        _ratio_without_end(ratio, *_floats(confint_proportions_2indep(*table, "log-adjusted", "ratio", alpha))),
    )


def _ratio_without_end(ratio: float, low: float, high: float) -> Estimate:
    """A ratio with its interval, which has no upper end if the second share has no events."""
    return Estimate(ratio, low, high if math.isfinite(ratio) else math.inf)


def _independent(values: Floats, clusters: ArrayLike) -> float:
    """The number of independent answers that say as much as these, by the correlation within clusters."""
    _, groups = np.unique(np.asarray(clusters), return_inverse=True)
    if np.ptp(values) == 0:
        return float(len(values))
    sizes = np.bincount(groups)
    return len(values) / (1 + (float(np.mean(sizes[groups])) - 1) * correlation_within(values, groups))


def _floats(ends: Sequence[float]) -> tuple[float, float]:
    low, high = ends
    return float(low), float(high)


def holm(p: Sequence[float]) -> list[float]:
    """The p-values with Holm's correction for their number."""
    if not p:
        return []
    corrected: list[float] = multipletests(p, method="holm")[1].tolist()
    return corrected


def clusters_needed(
    observed: Estimate, clusters: int, effect: float, alpha: float = ALPHA, power: float = 0.8
) -> int | None:
    """The number of clusters, spread as observed, whose interval excludes what is `effect` away from the truth with
    this power; None if their spread is unknown, or if it takes more than MAX_CLUSTERS.

    Simulates the interval that is used, Student's with the unseen clusters of `observed`, for normal cluster means.
    """
    if not observed.error > 0 or effect == 0:
        return None
    deviation = observed.error * math.sqrt(clusters)
    points = distributions.qmc.Sobol(2, rng=0).random_base2(SIMULATIONS.bit_length() - 1)
    normal, uniform = distributions.norm.ppf(points[:, 0]), points[:, 1]

    def found(count: int) -> bool:
        variance = deviation**2 * distributions.chi2(count - 1).ppf(uniform) / (count - 1)
        spread = np.sqrt(variance / count + observed.unseen**2 / (count * (count - 1)))
        value = abs(effect) + deviation / math.sqrt(count) * normal
        return float(np.mean(value > distributions.t(count - 1).ppf(1 - alpha / 2) * spread)) >= power

    counts = range(2, MAX_CLUSTERS + 1)
    fewest = bisect_left(counts, True, key=found)
    return counts[fewest] if fewest < len(counts) else None


@dataclass(frozen=True)
class ScoredLengths:
    """Scores and tokens of an arm's answers, both [answers], in the same order of (question, sample) as the other
    arm's.
    """

    scores: Floats
    tokens: Floats

    def capped(self, cap: float) -> Floats:
        """The scores [answers] if every text were truncated at `cap` tokens: with the same seed, longer texts lose
        their answer.
        """
        return self.scores * (self.tokens <= cap)


@dataclass(frozen=True)
class EqualMeanComparison:
    """Two arms at the same mean number of tokens: the longer one is truncated at the cap that equalises the means."""

    tokens: float
    own: float
    other: float
    difference: Estimate


def at_equal_mean(
    own: ScoredLengths, other: ScoredLengths, clusters: ArrayLike, alpha: float = ALPHA, resamples: int = RESAMPLES
) -> EqualMeanComparison:
    """Compare two arms at the smaller of their mean lengths, interpolating between caps.

    Each resample finds its own caps.
    """
    _, groups = np.unique(np.asarray(clusters), return_inverse=True)
    count = int(groups.max()) + 1
    caps = _caps(np.concatenate([own.tokens, other.tokens]))
    sums = [_sums(arm, groups, count, caps) for arm in (own, other)]
    sizes = np.bincount(groups, minlength=count).astype(np.float64)
    once = np.ones((1, count))
    (tokens,), (first,), (second,) = _matched(once, sums, sizes)
    _, firsts, seconds = _matched(bootstrap_weights(count, resamples), sums, sizes)
    unseen = unseen_share(own.scores - other.scores, groups)
    difference = bootstrap_difference(float(first - second), firsts - seconds, count, alpha, unseen)
    return EqualMeanComparison(float(tokens), float(first), float(second), difference)


def bootstrap_weights(clusters: int, resamples: int = RESAMPLES, seed: int = 0) -> Floats:
    """How often each cluster is in each resample, [resamples, clusters]."""
    shares = np.full(clusters, 1 / clusters)
    return np.random.default_rng(seed).multinomial(clusters, shares, resamples).astype(np.float64)


def bootstrap_difference(
    value: float, resampled: Floats, clusters: int, alpha: float = ALPHA, unseen: float | None = None
) -> Estimate:
    """A difference of scores with the interval of `bounded_difference`, its error from the resampled values
    [resamples].
    """
    if clusters < 2:
        return Estimate(value)
    error = float(resampled.std()) * math.sqrt(clusters / (clusters - 1))
    return bounded_difference(value, error, clusters, 1.0, alpha, unseen)


def _caps(tokens: Floats) -> Floats:
    """The lengths at which scores and mean lengths change, or a grid of their quantiles if there are too many; [caps],
    from 0.
    """
    caps = np.unique(tokens)
    if len(caps) > MAX_CAPS:
        caps = np.unique(np.quantile(tokens, np.linspace(0, 1, MAX_CAPS)))
    return np.concatenate([[0.0], caps])


def _sums(arm: ScoredLengths, groups: NDArray[np.intp], count: int, caps: Floats) -> tuple[Floats, Floats]:
    """The summed tokens and scores of each cluster at each cap, both [clusters, caps]."""
    tokens, scores = np.zeros((count, len(caps))), np.zeros((count, len(caps)))
    np.add.at(tokens, groups, np.minimum(arm.tokens[:, None], caps))
    np.add.at(scores, groups, arm.scores[:, None] * (arm.tokens[:, None] <= caps))
    return tokens, scores


def _matched(weights: Floats, sums: Sequence[tuple[Floats, Floats]], sizes: Floats) -> tuple[Floats, Floats, Floats]:
    """For each row of weights [resamples, clusters]: the common mean length, and both arms' mean scores at it."""
    answers = (weights @ sizes)[:, None]
    curves = [(weights @ tokens / answers, weights @ scores / answers) for tokens, scores in sums]
    common = np.minimum(curves[0][0][:, -1], curves[1][0][:, -1])
    own, other = (
        np.array([np.interp(at, lengths, scores) for at, lengths, scores in zip(common, *curve, strict=True)])
        for curve in curves
    )
    return common, own, other
