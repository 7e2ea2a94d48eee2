"""Holm's correction, against statsmodels and its own definition."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.multitest import multipletests

from forkpoint_server.experiments.analysis.multiple_testing import holm


@pytest.mark.parametrize("count", [1, 2, 7])  # not more: statsmodels collects garbage at each call
def test_holm_agrees_with_statsmodels(count: int) -> None:
    p_values = (np.random.default_rng(count).random(count) ** 4).tolist()
    assert holm(p_values) == pytest.approx(multipletests(p_values, method="holm")[1].tolist())


@given(st.lists(st.floats(0, 1), max_size=12), st.floats(0.001, 0.999))
def test_holm_steps_down(p_values: list[float], alpha: float) -> None:
    """The smallest is compared with alpha / count, the next with alpha / (count - 1), until one is too large."""
    left = sorted(range(len(p_values)), key=p_values.__getitem__)
    rejected = set()
    while left and p_values[left[0]] * len(left) <= alpha:
        rejected.add(left.pop(0))
    assert {number for number, p in enumerate(holm(p_values)) if p <= alpha} == rejected
