"""Holm's correction, against statsmodels."""

from __future__ import annotations

import pytest
from forkpoint_server.experiments.families import holm
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.multitest import multipletests


@settings(max_examples=20, deadline=None)  # statsmodels collects garbage at each call
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_it_is_statsmodels(p_values: list[float]) -> None:
    assert holm(p_values) == pytest.approx(multipletests(p_values, method="holm")[1].tolist(), abs=1e-12)


def test_of_none() -> None:
    assert holm([]) == []
