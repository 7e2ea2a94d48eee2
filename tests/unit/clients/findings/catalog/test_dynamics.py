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
    assert found.verdict.word == "measured"
    assert found.claims[0].parts[0].estimate.value == pytest.approx(1.499, abs=0.05)
    assert dynamics.conclude(texts(sparse=False, seed=3)).verdict.word == "undecided"
    falling = [trace(f"q{n}", [" a"] * 100, np.linspace(2.0, 0.6 + n / 100, 100).tolist()) for n in range(20)]
    assert dynamics.change(falling, planning=True).high < -0.8
    assert [tenth for tenth, _ in dynamics.drift(falling, planning=True)] == list(range(1, 11))
    assert math.isnan(dynamics.change(falling, planning=False).value)
    assert math.isnan(dynamics.conclude(falling).claims[0].parts[0].estimate.value)  # no connector


def test_a_peak_at_any_rare_token_is_not_the_connectors() -> None:
    """Names are sampled as rarely as connectors: with as much entropy, or with less."""
    for nats, word, excess in ((1.5, "measured otherwise", -0.5), (1.0, "undecided", 0.0), (0.3, "measured", 0.7)):
        random, found = np.random.default_rng(4), []
        for number in range(30):
            tokens = [(" Wait" if index % 20 == 5 else " Ann") if index % 10 == 5 else " a" for index in range(120)]
            mean = {" Wait": 1.0, " Ann": nats, " a": 0.1}
            found.append(trace(f"q{number}", tokens, [mean[token] + random.normal(0, 0.05) for token in tokens]))
        result = dynamics.conclude(found)
        assert result.claims[0].parts[1].estimate.value == pytest.approx(excess, abs=0.05)
        assert result.verdict.word == word
        assert "100% of the connectors" in result.notes[0]
