"""Always-valid intervals and p-values: against ville, against closed forms, and against each other."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ville import MSPRT, normal_mixture

from forkpoint_server.experiments.analysis import confidence_sequence
from forkpoint_server.experiments.analysis.confidence_sequence import (
    NARROWEST_REQUESTS,
    log_e_value,
    mixing,
    p_value,
    radius,
)

REQUESTS = st.floats(1, 1e9)
ALPHA = st.floats(1e-6, 0.5)
ONE_SIDED = st.booleans()


@given(requests=REQUESTS, alpha=ALPHA, variance=st.floats(1e-12, 1e12), one_sided=ONE_SIDED)
def test_the_interval_is_ville_s_boundary(requests: float, alpha: float, variance: float, one_sided: bool) -> None:
    expected = float(normal_mixture(requests, alpha, mixing(one_sided), one_sided)) * math.sqrt(variance / requests)
    assert radius(variance, requests, alpha, one_sided) == pytest.approx(expected, rel=1e-9)


@given(requests=REQUESTS, alpha=ALPHA)
def test_the_interval_is_that_of_the_paper(requests: float, alpha: float) -> None:
    """Waudby-Smith et al., Theorem 2.2: with rho^2 = 1 / the mixture's precision, for a standard deviation of 1."""
    rho2 = 1 / mixing(False)
    paper = math.sqrt(
        2 * (requests * rho2 + 1) / (requests**2 * rho2) * math.log(math.sqrt(requests * rho2 + 1) / alpha)
    )
    assert radius(1 / requests, requests, alpha) == pytest.approx(paper, rel=1e-9)


@given(requests=REQUESTS, alpha=ALPHA, one_sided=ONE_SIDED)
def test_the_p_value_is_alpha_where_the_interval_ends(requests: float, alpha: float, one_sided: bool) -> None:
    edge = radius(1.0, requests, alpha, one_sided)
    assert p_value(edge, 1.0, requests, one_sided) == pytest.approx(alpha, rel=1e-6)
    assert p_value(edge * 1.01, 1.0, requests, one_sided) < alpha < p_value(edge * 0.99, 1.0, requests, one_sided)


def test_the_p_value_is_ville_s_sequential_probability_ratio() -> None:
    values = np.random.default_rng(0).normal(0.1, 1.0, 3000)
    test = MSPRT(sigma=1.0, tau=1 / math.sqrt(mixing(False))).fit(values)
    for count in (10, 500, 3000):
        z = values[:count].sum() / math.sqrt(count)
        assert log_e_value(z, count) == pytest.approx(test.log_e_values_[count - 1], rel=1e-9)


@given(requests=REQUESTS, alpha=st.floats(1e-6, 0.25), one_sided=ONE_SIDED)
def test_intervals_of_a_smaller_alpha_contain_the_others(requests: float, alpha: float, one_sided: bool) -> None:
    assert radius(1.0, requests, alpha, one_sided) > radius(1.0, requests, 2 * alpha, one_sided)


@given(requests=REQUESTS, z=st.floats(-30, 30), one_sided=ONE_SIDED, factor=st.floats(1e-3, 1e3))
def test_the_scale_does_not_matter(requests: float, z: float, one_sided: bool, factor: float) -> None:
    assert p_value(z, 1.0, requests, one_sided) == pytest.approx(
        p_value(z * factor, factor**2, requests, one_sided), rel=1e-6
    )


def test_where_the_intervals_are_narrowest() -> None:
    """The module's docstring states how wide they are before and after that point."""

    def beside_fixed(requests: float) -> float:
        return radius(1.0, requests, confidence_sequence.TUNED_ALPHA)

    best = beside_fixed(NARROWEST_REQUESTS)
    assert best == pytest.approx(3.03, abs=0.01)
    assert min(map(beside_fixed, np.geomspace(1, 1e9, 200))) >= best - 1e-6
    assert 1.15 < beside_fixed(NARROWEST_REQUESTS / 10) / best < 1.3
    assert 1.15 < beside_fixed(NARROWEST_REQUESTS * 100) / best < 1.3


def test_no_difference_has_a_p_value_of_one() -> None:
    assert p_value(0.0, 1.0, 1000) == 1.0
    assert p_value(-50.0, 1.0, 1000, one_sided=True) == 1.0
    assert p_value(1e6, 1.0, 1000) == 0.0
