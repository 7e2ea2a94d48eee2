"""The test of the sample ratio: against ville, under chance, and against units that are lost."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import multinomial
from ville import BernoulliTest

from forkpoint_server.experiments.analysis import srm as module
from forkpoint_server.experiments.analysis.srm import ALPHA, CONCENTRATIONS, log_e_values, srm_test
from forkpoint_server.experiments.analysis.sums import Stratum

HALVES = {"a": 0.5, "b": 0.5}


def test_of_two_arms_it_is_the_mean_of_ville_s(monkeypatch: pytest.MonkeyPatch) -> None:
    units = (np.random.default_rng(0).random(400) < 0.25).astype(float)
    counts = [int(units.sum()), int(400 - units.sum())]
    theirs = [BernoulliTest(0.3, prior=(0.3 * one, 0.7 * one)).fit(units).log_e_values_[-1] for one in CONCENTRATIONS]
    assert log_e_values(counts, [0.3, 0.7]) == pytest.approx(np.log(np.mean(np.exp(theirs))))
    monkeypatch.setattr(module, "CONCENTRATIONS", (10.0,))
    assert log_e_values(counts, [0.3, 0.7]) == pytest.approx(
        BernoulliTest(0.3, prior=(3, 7)).fit(units).log_e_values_[-1]
    )


def test_the_evidence_is_one_on_average() -> None:
    """That makes it an e-value: exact, over all outcomes of nine units in three arms."""
    shares = [0.2, 0.3, 0.5]
    outcomes = np.array([(a, b, 9 - a - b) for a in range(10) for b in range(10 - a)])
    assert multinomial.pmf(outcomes, 9, shares) @ np.exp(log_e_values(outcomes, shares)) == pytest.approx(1)


def test_daily_looks_cause_no_false_alarm() -> None:
    random = np.random.default_rng(1)
    counts = random.multinomial(500, [0.2, 0.3, 0.5], (1000, 28)).cumsum(axis=1)
    alarms = (log_e_values(counts, [0.2, 0.3, 0.5]) >= -math.log(ALPHA)).any(axis=1)
    assert alarms.mean() <= ALPHA


@pytest.mark.parametrize(("units", "share"), [(1_000, 0.6), (20_000, 0.9), (1_000_000, 0.98)])
def test_lost_units_are_found(units: int, share: float) -> None:
    found = srm_test(["a", "b"], [Stratum(HALVES, {"a": units, "b": round(units * share)})])
    assert not found["passed"]
    assert found["reason"].startswith(("a has", "b has"))
    assert found["units"] == {"a": units, "b": round(units * share)}
    assert found["expected"]["a"] == pytest.approx(units * (1 + share) / 2)


def test_each_epoch_has_its_own_weights() -> None:
    """The total counts fit no weights, but those of each epoch fit its own."""
    ramped = [Stratum({"a": 0.5, "b": 0.05}, {"a": 5000, "b": 510}), Stratum({"b": 0.45}, {"b": 4600})]
    result = srm_test(["a", "b"], ramped)
    assert result["passed"]
    assert result["expected"] == pytest.approx({"a": 5510 / 1.1, "b": 551 / 1.1 + 4600 - 50.1}, rel=0.02)
    naive = srm_test(["a", "b"], [ramped[0], Stratum({"a": 0.5, "b": 0.5}, {"a": 900, "b": 4600})])
    assert not naive["passed"]


def test_evidence_of_epochs_adds_up() -> None:
    epoch = Stratum(HALVES, {"a": 5000, "b": 4750})
    one, four = (srm_test(["a", "b"], [epoch] * count)["p_value"] for count in (1, 4))
    assert four == pytest.approx(one**4)
    assert ALPHA < one < 1
    assert four < ALPHA


def test_units_without_a_weight_are_a_mismatch() -> None:
    result = srm_test(["a", "b"], [Stratum({"a": 1.0, "b": 0.0}, {"a": 100, "b": 1})])
    assert (result["passed"], result["p_value"]) == (False, 0.0)
    assert "b in an epoch in which it had no weight" in result["reason"]


@given(st.lists(st.tuples(st.integers(0, 10**7), st.integers(0, 10**7)), max_size=4), st.floats(0.001, 0.999))
def test_any_counts_give_json(epochs: list[tuple[int, int]], share: float) -> None:
    result = srm_test(["a", "b"], [Stratum({"a": share, "b": 1 - share}, {"a": a, "b": b}) for a, b in epochs])
    json.dumps(result, allow_nan=False)
    assert 0 <= result["p_value"] <= 1


def test_an_empty_sample_shows_no_mismatch() -> None:
    assert srm_test(["a", "b"], [])["passed"]
    assert srm_test(["a", "b"], [Stratum(HALVES, {})])["passed"]
    assert srm_test(["a", "b"], [Stratum({}, {})])["p_value"] == 1


def test_weights_are_shares() -> None:
    with pytest.raises(ValueError, match="weights are shares"):
        srm_test(["a", "b"], [Stratum({"a": -0.5, "b": 0.5}, {})])
    with pytest.raises(ValueError, match="weights are shares"):
        srm_test(["a", "b"], [Stratum({"a": math.nan, "b": 0.5}, {})])
