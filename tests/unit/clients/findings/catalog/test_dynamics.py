"""`dynamics` finds planted peaks and drifts."""

from __future__ import annotations

import math

import numpy as np
import pytest

from forkpoint_clients.findings.catalog import (
    dynamics,
)
from tests.unit.clients.findings.synthetic import texts, trace


def test_dynamics_finds_peaks_and_drifts() -> None:
    found = dynamics.conclude(texts(sparse=True, seed=2))
    assert found.verdict.word == "reproduced"
    assert found.claims[0].parts[0].estimate.value == pytest.approx(1.499, abs=0.05)
    assert dynamics.conclude(texts(sparse=False, seed=3)).verdict.word == "undecided"
    falling = [trace(f"q{n}", [" a"] * 100, np.linspace(2.0, 0.6 + n / 100, 100).tolist()) for n in range(20)]
    assert dynamics.change(falling, planning=True).high < -0.8
    assert [tenth for tenth, _ in dynamics.drift(falling, planning=True)] == list(range(1, 11))
    assert math.isnan(dynamics.change(falling, planning=False).value)
    assert math.isnan(dynamics.conclude(falling).claims[0].parts[0].estimate.value)  # no connector
