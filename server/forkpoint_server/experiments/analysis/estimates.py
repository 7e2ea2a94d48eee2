"""Means per request and their differences between arms, with variances clustered by unit.

A mean is a ratio: the sum of all sums over the number of all requests. The delta method linearises it: the influence of
a unit is (its sum - the mean x its requests) / all requests, and the variance is the sum of the squared influences.
Units may differ in size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .sums import Sums

MIN_UNITS = 100
"""Of each arm, before anything counts as certain."""

MIN_EFFECTIVE_UNITS = 20.0
"""Of each arm: units over the kurtosis of their influences. For a rare event this is how many have occurred, or would
at the rate of both arms; for sums that one unit dominates it is about one. Below this, a sum is not near normal yet."""

ROUNDING = 1e-12
"""Relative to a sum: a smaller difference from it is rounding."""


@dataclass(frozen=True)
class Estimate:
    """A mean or a difference, its variance, and its clock, `requests`. With a `reason`, nothing is certain yet."""

    value: float | None
    variance: float
    requests: float
    reason: str | None = None


@dataclass(frozen=True)
class _Entries:
    """The usable entries of an arm, with their periods and units counted from 0."""

    requests: NDArray[np.float64]
    sums: NDArray[np.float64]
    units: NDArray[np.int64] | None
    unit_count: int
    periods: NDArray[np.int64]

    def by_period(self, values: NDArray[np.float64], periods: int) -> NDArray[np.float64]:
        return np.bincount(self.periods, values, periods).astype(np.float64)

    def by_unit(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        return values if self.units is None else np.bincount(self.units, values, self.unit_count).astype(np.float64)


def _entries(sums: Sums, scale: float, among: NDArray[np.int64] | None = None) -> _Entries:
    """The entries in the periods `among`, or all, as one period. Sums are divided by `scale`, against overflow."""
    keep, periods = sums.usable, None
    if among is not None and sums.periods is not None:
        keep = keep & np.isin(sums.periods, among)
        periods = np.searchsorted(among, sums.periods[keep])
    units, count = None, int(np.count_nonzero(keep))
    if periods is None:
        periods = np.zeros(count, np.int64)
    if sums.units is not None:
        numbers, units = np.unique(sums.units[keep], return_inverse=True)
        count = numbers.size
    return _Entries(sums.requests[keep], sums.sums[keep] / scale, units, count, periods)


def _scale(*of: Sums) -> float:
    largest = max((float(np.abs(sums.sums[sums.usable]).max(initial=0.0)) for sums in of), default=0.0)
    return largest or 1.0


def unit_count(sums: Sums) -> int:
    """The units with a value."""
    return _entries(sums, 1.0).unit_count


def estimate_mean(sums: Sums) -> Estimate:
    """The mean of one arm's requests."""
    scale = _scale(sums)
    entries = _entries(sums, scale)
    requests = float(entries.requests.sum())
    if not requests:
        return Estimate(None, math.nan, 0.0, "no values yet")
    mean = float(entries.sums.sum()) / requests
    influence = _influence(entries, np.array([mean]), np.array([1 / requests]))
    variance = _variance(influence) * scale * scale
    reason = _too_few(entries.unit_count, effective_units(influence))
    return Estimate(mean * scale, variance, requests, reason or _unusable(mean * scale, variance))


def estimate_difference(arm: Sums, control: Sums) -> Estimate:
    """The mean of an arm's requests minus that of the control's, within each period, weighted by information.

    The weight of a period is n_arm x n_control / (n_arm + n_control), 0 where one of them has no requests. The clock is
    four times the sum of weights: all requests, where both arms have as many. Raises ValueError where only one arm has
    periods.
    """
    scale = _scale(arm, control)
    among = _common_periods(arm, control)
    ours, theirs = _entries(arm, scale, among), _entries(control, scale, among)
    if not among.size:
        both = arm.usable.any() and control.usable.any()
        return Estimate(None, math.nan, 0.0, "no period in which both arms have values" if both else "no values yet")
    count = among.size
    n_ours, n_theirs = ours.by_period(ours.requests, count), theirs.by_period(theirs.requests, count)
    s_ours, s_theirs = ours.by_period(ours.sums, count), theirs.by_period(theirs.sums, count)
    overlap = n_ours * n_theirs / (n_ours + n_theirs)
    weights = overlap / overlap.sum()
    value = float(weights @ (s_ours / n_ours - s_theirs / n_theirs))
    own = [_influence(one, s / n, weights / n) for one, n, s in ((ours, n_ours, s_ours), (theirs, n_theirs, s_theirs))]
    common = (s_ours + s_theirs) / (n_ours + n_theirs)
    pooled = np.concatenate([_influence(one, common, weights / np.sqrt(n_ours * n_theirs)) for one in (ours, theirs)])
    variance = sum(_variance(influence) for influence in own)
    fewest = min(ours.unit_count, theirs.unit_count)
    effective = min(effective_units(influence) for influence in own)
    if effective < MIN_EFFECTIVE_UNITS:
        # An arm's own values do not show its variance yet: a rare event may merely not have occurred in it.
        variance = max(variance, _variance(pooled))
        effective = effective_units(pooled) * fewest / pooled.size
    variance *= scale * scale
    reason = _too_few(fewest, effective) or _unusable(value * scale, variance)
    return Estimate(value * scale, variance, 4 * float(overlap.sum()), reason)


def _common_periods(arm: Sums, control: Sums) -> NDArray[np.int64]:
    if not (arm.usable.any() and control.usable.any()):
        return np.empty(0, np.int64)
    if arm.periods is None and control.periods is None:
        return np.zeros(1, np.int64)
    if arm.periods is None or control.periods is None:
        raise ValueError("of two arms that are compared both say in which periods their requests came, or neither")
    return np.intersect1d(arm.periods[arm.usable], control.periods[control.usable])


def _influence(entries: _Entries, means: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """[units] the influence of each unit, from the means [periods] and weights [periods]."""
    deviation = entries.sums - means[entries.periods] * entries.requests
    deviation[np.abs(deviation) <= ROUNDING * np.abs(entries.sums)] = 0.0  # otherwise equal values would seem to vary
    return entries.by_unit(deviation * weights[entries.periods])


def _variance(influence: NDArray[np.float64]) -> float:
    """The variance of the sum of the influences [units]; NaN for a single unit."""
    count = influence.size
    return float(influence @ influence) * count / (count - 1) if count > 1 else math.nan


def effective_units(influence: NDArray[np.float64]) -> float:
    """The number of equal units whose sum would be as far from normal; 0 where no unit has influence."""
    largest = float(np.abs(influence).max(initial=0.0))
    if not largest:
        return 0.0
    squares = (influence / largest) ** 2
    return float(squares.sum()) ** 2 / float(squares @ squares)


def _too_few(units: int, effective: float) -> str | None:
    if units < MIN_UNITS:
        return f"needs {MIN_UNITS} units in each arm, and has {units}"
    if 0 < effective < MIN_EFFECTIVE_UNITS:
        return f"a few units decide: they count like {effective:.1f} equal ones, and {MIN_EFFECTIVE_UNITS:g} are needed"
    return None


def _unusable(value: float, variance: float) -> str | None:
    if not (math.isfinite(value) and math.isfinite(variance)):
        return "the values are too large to compute with"
    if not variance:
        return "all units have the same value"
    return None
