"""How many more requests: by the interval's own width, and by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from forkpoint_server.experiments.analysis.confidence_sequence import p_value, radius
from forkpoint_server.experiments.analysis.estimates import Estimate
from forkpoint_server.experiments.analysis.power import MAX_TIMES, POWER, times_more

SO_FAR = Estimate(0.0, 4.0, 1000.0)


@given(effect=st.floats(0.01, 10), alpha=st.floats(1e-5, 0.3), one_sided=st.booleans())
def test_the_interval_at_that_size_leaves_room_for_the_error(effect: float, alpha: float, one_sided: bool) -> None:
    times = times_more(SO_FAR, effect, alpha, one_sided)
    assert times is not None
    variance = SO_FAR.variance / times
    needed = radius(variance, SO_FAR.requests * times, alpha, one_sided) + float(norm.ppf(POWER)) * math.sqrt(variance)
    assert needed == pytest.approx(effect, rel=1e-6) if times > 1 else needed <= effect * (1 + 1e-9)


@pytest.mark.parametrize("one_sided", [False, True])
def test_four_of_five_experiments_of_that_size_show_the_effect(one_sided: bool) -> None:
    times = times_more(SO_FAR, 0.5, 0.05, one_sided)
    assert times is not None
    variance = SO_FAR.variance / times
    samples = np.random.default_rng(0).normal(0.5, math.sqrt(variance), 4000)
    shown = np.mean([p_value(value, variance, SO_FAR.requests * times, one_sided) <= 0.05 for value in samples])
    assert shown == pytest.approx(POWER, abs=0.02)


@given(effect=st.floats(0.01, 5), alpha=st.floats(1e-4, 0.2))
def test_a_smaller_effect_and_a_stricter_alpha_take_longer(effect: float, alpha: float) -> None:
    usual, smaller, stricter = (
        times_more(SO_FAR, effect, alpha),
        times_more(SO_FAR, effect / 2, alpha),
        times_more(SO_FAR, effect, alpha / 2),
    )
    assert usual is not None
    assert smaller is not None
    assert stricter is not None
    assert smaller >= usual
    assert stricter >= usual


def test_the_factor_is_none_or_bounded_in_degenerate_cases() -> None:
    assert times_more(Estimate(1.0, 4.0, 50.0, "needs 100 units"), 0.5, 0.05) is None
    for effect in (0.0, -1.0, math.nan, math.inf):
        assert times_more(SO_FAR, effect, 0.05) is None
    assert times_more(SO_FAR, 1e-3 / math.sqrt(MAX_TIMES), 0.05) is None
    assert times_more(SO_FAR, 1e9, 0.05) == 1.0
