"""Means and differences of an experiment's arms: against closed forms, ville and statsmodels, and with little data."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st
from ville import AsymptoticABTest, AsymptoticCS

from forkpoint_server.experiments.analysis.confidence_sequence import NARROWEST_REQUESTS, radius
from forkpoint_server.experiments.analysis.estimates import (
    MIN_UNITS,
    effective_units,
    estimate_difference,
    estimate_mean,
    unit_count,
)
from forkpoint_server.experiments.analysis.sums import NONE, Sums


def one_each(values: list[float] | np.ndarray[tuple[int], np.dtype[np.float64]]) -> Sums:
    """Units of one request."""
    sums = np.asarray(values, np.float64)
    return Sums(np.ones_like(sums), sums)


def clusters(seed: int, units: int = 200, effect: float = 0.0) -> Sums:
    """Units of one to nine requests, which resemble each other."""
    random = np.random.default_rng(seed)
    requests = random.integers(1, 10, units).astype(float)
    return Sums(
        requests, requests * random.normal(10 + effect, 2, units) + np.sqrt(requests) * random.normal(0, 3, units)
    )


def test_the_mean_and_its_interval_are_ville_s() -> None:
    values = np.random.default_rng(1).exponential(300, 2000)
    estimate = estimate_mean(one_each(values))
    low, high = AsymptoticCS(t_opt=NARROWEST_REQUESTS).fit(values).interval()
    reach = radius(estimate.variance, estimate.requests, 0.05)
    assert estimate.value is not None
    assert (estimate.value - reach, estimate.value + reach) == pytest.approx((low, high), rel=1e-9)


def test_the_difference_is_near_ville_s() -> None:
    """ville's takes requests one by one with a known share, and predicts the mean from earlier ones: equal at last."""
    random = np.random.default_rng(2)
    treated = random.random(20_000) < 0.3
    values = random.exponential(300, 20_000) + 20 * treated
    theirs = AsymptoticABTest(propensity=0.3, t_opt=int(NARROWEST_REQUESTS)).fit(values, treated)
    low, high = theirs.interval()
    ours = estimate_difference(one_each(values[treated]), one_each(values[~treated]))
    assert ours.value == pytest.approx(theirs.estimate_[-1], abs=1.0)
    assert 2 * radius(ours.variance, ours.requests, 0.05) == pytest.approx(high - low, rel=0.03)


def test_the_variance_is_statsmodels_clustered_one() -> None:
    arm, control = clusters(3, effect=1), clusters(4)
    requests = np.concatenate([control.requests, arm.requests])
    means = np.concatenate([control.sums / control.requests, arm.sums / arm.requests])
    treated = np.repeat([0.0, 1.0], 200)
    fit = sm.WLS(means, sm.add_constant(treated), weights=requests).fit(
        cov_type="HC0"
    )  # weighted, one row a unit: its influence
    ours = estimate_difference(arm, control)
    assert ours.value == pytest.approx(fit.params[1], rel=1e-9)
    assert ours.variance * 199 / 200 == pytest.approx(fit.bse[1] ** 2, rel=1e-9)


def test_the_variance_is_that_of_simulation() -> None:
    estimates = [estimate_difference(clusters(seed), clusters(10_000 + seed)) for seed in range(600)]
    values = [estimate.value for estimate in estimates if estimate.value is not None]
    assert np.var(values) == pytest.approx(np.mean([estimate.variance for estimate in estimates]), rel=0.15)
    assert np.mean(values) == pytest.approx(0, abs=4 * float(np.std(values)) / math.sqrt(len(values)))


def test_units_are_what_counts_not_requests() -> None:
    """Requesting the same values ten times adds no evidence, but the requests advance the clock."""
    arm, control = clusters(5), clusters(6)
    once, tenfold = (
        estimate_difference(*[Sums(one.requests * times, one.sums * times) for one in (arm, control)])
        for times in (1, 10)
    )
    assert once.value == pytest.approx(tenfold.value)
    assert once.variance == pytest.approx(tenfold.variance)
    assert 10 * once.requests == pytest.approx(tenfold.requests)


@settings(max_examples=50)
@given(seed=st.integers(0, 1000), factor=st.floats(1e-6, 1e6), shift=st.floats(-100, 100))
def test_order_scale_and_a_common_shift_do_not_matter(seed: int, factor: float, shift: float) -> None:
    arm, control = clusters(seed), clusters(seed + 5000, effect=0.5)
    expected = estimate_difference(arm, control)
    order = np.random.default_rng(seed).permutation(arm.requests.size)
    shuffled = estimate_difference(Sums(arm.requests[order], arm.sums[order]), control)
    assert expected.value is not None
    assert shuffled.value == pytest.approx(expected.value)
    assert shuffled.variance == pytest.approx(expected.variance)
    scaled = estimate_difference(*[Sums(one.requests, one.sums * factor) for one in (arm, control)])
    assert scaled.value == pytest.approx(expected.value * factor)
    assert scaled.variance == pytest.approx(expected.variance * factor**2)
    moved = estimate_difference(*[Sums(one.requests, one.sums + shift * one.requests) for one in (arm, control)])
    assert moved.value == pytest.approx(expected.value, rel=1e-6, abs=1e-9)
    assert moved.variance == pytest.approx(expected.variance, rel=1e-6)
    turned = estimate_difference(control, arm)
    assert turned.value == pytest.approx(-expected.value)
    assert turned.variance == pytest.approx(expected.variance)


def test_periods_remove_drift() -> None:
    """An arm that was raised late has more of the late requests, which were longer for all."""
    random = np.random.default_rng(7)

    def arm(early: int, late: int) -> Sums:
        values = np.concatenate([random.normal(100, 10, early), random.normal(200, 10, late)])
        return Sums(np.ones(early + late), values, periods=np.repeat([0, 1], [early, late]))

    raised, control = arm(200, 2000), arm(2000, 2000)
    found = estimate_difference(raised, control)
    without_periods = estimate_difference(replace(raised, periods=None), replace(control, periods=None))
    assert found.value is not None
    assert without_periods.value is not None
    assert abs(found.value) < radius(found.variance, found.requests, 0.05)
    assert without_periods.value > 30 > radius(without_periods.variance, without_periods.requests, 0.05)
    overlap = 200 * 2000 / 2200 + 1000
    assert found.requests == pytest.approx(4 * overlap)


def test_a_unit_in_two_periods_is_one_unit() -> None:
    one = clusters(8)
    units = np.arange(200)
    halves = Sums(np.tile(one.requests / 2, 2), np.tile(one.sums / 2, 2), np.tile(units, 2), np.repeat([0, 1], 200))
    whole = Sums(one.requests, one.sums, units, np.zeros(200, np.int64))
    other = clusters(9)
    control = Sums(other.requests, other.sums, units, np.zeros(200, np.int64))
    control_halves = Sums(
        np.tile(other.requests / 2, 2), np.tile(other.sums / 2, 2), np.tile(units, 2), np.repeat([0, 1], 200)
    )
    assert unit_count(halves) == 200
    expected, split = estimate_difference(whole, control), estimate_difference(halves, control_halves)
    assert split.value == pytest.approx(expected.value)
    assert split.variance == pytest.approx(expected.variance)


def test_a_period_without_both_arms_says_nothing() -> None:
    early = Sums(np.ones(500), np.linspace(0, 1, 500), periods=np.zeros(500, np.int64))
    late = Sums(np.ones(500), np.linspace(0, 1, 500), periods=np.ones(500, np.int64))
    estimate = estimate_difference(early, late)
    assert (estimate.value, estimate.reason) == (None, "no period in which both arms have values")
    with pytest.raises(ValueError, match="both say in which periods"):
        estimate_difference(early, replace(late, periods=None))
    assert estimate_difference(early, NONE).reason == "no values yet"


def test_an_arm_without_a_rare_event_does_not_look_certain() -> None:
    """100 requests without an error, where the control fails in 2 %, are what one expects one time in eight."""
    control = one_each([1.0] * 200 + [0.0] * 9800)
    few = estimate_difference(one_each([0.0] * 100), control)
    assert few.reason is not None
    assert few.reason.startswith("a few units decide: they count like 2")
    many = estimate_difference(one_each([0.0] * 5000), control)
    assert many.reason is None
    assert many.value == pytest.approx(-0.02)
    common = 200 / 15_000
    assert many.variance == pytest.approx(common * (1 - common) * (1 / 5000 + 1 / 10_000), rel=1e-3)


@pytest.mark.parametrize(
    ("arm", "reason"),
    [
        ([1.0, 2.0] * (MIN_UNITS // 2 - 1), "needs 100 units in each arm, and has 98"),
        ([5.0], "needs 100 units in each arm, and has 1"),
        ([], "no values yet"),
        ([3.0] * 200, "all units have the same value"),
        ([0.0] * 199 + [1e9], "a few units decide: they count like 1.0 equal ones, and 20 are needed"),
        ([1e308, -1e308] * 100, "the values are too large to compute with"),
    ],
)
def test_a_mean_without_an_interval_gives_the_reason(arm: list[float], reason: str) -> None:
    estimate = estimate_mean(one_each(arm))
    assert estimate.reason == reason
    assert (estimate.value is None) == (not arm)


def test_arms_of_equal_values_differ_with_certainty() -> None:
    """Neither arm has a variance, but the pooled values have one."""
    estimate = estimate_difference(one_each([0.1] * 200), one_each([0.2] * 200))
    assert estimate.reason is None
    assert estimate.value == pytest.approx(-0.1)
    assert abs(-0.1) > radius(estimate.variance, estimate.requests, 0.05)
    assert estimate_difference(one_each([0.1] * 200), one_each([0.1] * 200)).reason == "all units have the same value"


def test_one_huge_unit_decides_nothing() -> None:
    arm, control = clusters(11, 500), clusters(12, 500)
    arm.requests[0], arm.sums[0] = 100_000, 3_000_000
    assert (estimate_difference(arm, control).reason or "").startswith("a few units decide")


def test_invalid_sums_are_left_out_and_counted() -> None:
    good = clusters(13)
    bad = Sums(np.append(good.requests, [1, 0, 2, -1, 0]), np.append(good.sums, [np.nan, 5, np.inf, 1, 0]))
    assert (estimate_mean(bad), bad.broken) == (estimate_mean(good), 4)
    assert estimate_difference(bad, good).value == pytest.approx(0)


def test_columns_must_be_of_equal_length() -> None:
    with pytest.raises(ValueError, match="of equal length"):
        Sums(np.ones(3), np.ones(2))
    with pytest.raises(ValueError, match="of equal length"):
        Sums(np.ones((2, 2)), np.ones((2, 2)))


def test_effective_units() -> None:
    assert effective_units(np.ones(50)) == pytest.approx(50)
    assert effective_units(np.array([1.0] + [0.0] * 99)) == pytest.approx(1)
    assert effective_units(np.zeros(5)) == 0
    rare = np.repeat([1 - 0.01, -0.01], [100, 9900])
    assert effective_units(rare) == pytest.approx(100, rel=0.05)
