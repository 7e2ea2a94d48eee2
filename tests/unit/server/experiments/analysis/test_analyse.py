"""The whole analysis: verdicts, guardrails, reasons to withhold them, and valid JSON for any values."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.multitest import multipletests

from forkpoint_server.experiments.analysis.analyse import Arm, Metric, Stratum, Sums, analyse

TOKENS = Metric("tokens", "lower", "decision")
CORRECT = Metric("correct", "higher", "decision")
ERROR = Metric("error", "lower", "guardrail", margin=0.02)
LATENCY = Metric("latency_seconds", "lower", "information")
METRICS = (TOKENS, CORRECT, ERROR, LATENCY)


def arm(name: str, seed: int, units: int = 3000, tokens: float = 500, correct: float = 0.5, error: float = 0.03) -> Arm:
    random = np.random.default_rng(seed)
    ones = np.ones(units)
    samples = {
        "tokens": random.gamma(2, tokens / 2, units),
        "correct": random.binomial(1, correct, units).astype(float),
        "error": random.binomial(1, error, units).astype(float),
        "latency_seconds": random.gamma(2, tokens / 2000, units),
    }
    return Arm(name, {metric: Sums(ones, values) for metric, values in samples.items()}, {}, {})


def even(*arms: Arm, units: int = 3000) -> list[Stratum]:
    return [Stratum({one.name: 1 / len(arms) for one in arms}, {one.name: units for one in arms})]


def differences(analysis: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {metric: about["arms"][name]["difference"] for metric, about in analysis["metrics"].items()}


def test_verdicts_of_a_policy_that_saves_tokens_and_costs_accuracy() -> None:
    arms = [arm("none", 0), arm("calm", 1, tokens=400, correct=0.4), arm("same", 2)]
    analysis = analyse(arms, "none", even(*arms), METRICS)
    calm, same = differences(analysis, "calm"), differences(analysis, "same")
    assert (calm["tokens"]["verdict"], calm["correct"]["verdict"]) == ("better", "worse")
    assert calm["tokens"]["text"].startswith("better: -")
    assert same["tokens"]["verdict"] == same["correct"]["verdict"] == "not yet decided"
    assert "more requests" in same["correct"]["text"]
    assert calm["latency_seconds"]["verdict"] is None
    assert analysis["verdict"] == "calm is better in tokens; calm is worse in correct"
    assert analysis["comparisons"] == 4
    assert "difference" not in analysis["metrics"]["tokens"]["arms"]["none"]
    assert calm["tokens"]["relative"] == pytest.approx(-0.2, abs=0.03)


def test_holm_is_over_arms_and_decision_metrics_only() -> None:
    arms = [arm("none", 0), arm("calm", 1, tokens=450), arm("same", 2)]
    with_guardrail, without = (analyse(arms, "none", even(*arms), metrics) for metrics in (METRICS, METRICS[:2]))
    found = [
        with_guardrail["metrics"][metric]["arms"][name]["difference"]
        for metric in ("tokens", "correct")
        for name in ("calm", "same")
    ]
    expected = multipletests([one["p_value"] for one in found], method="holm")[1]
    assert [one["p_value_holm"] for one in found] == pytest.approx(expected.tolist())
    assert differences(without, "calm")["tokens"] == differences(with_guardrail, "calm")["tokens"]
    assert differences(with_guardrail, "calm")["error"]["p_value_holm"] is None


@pytest.mark.parametrize(("error", "status"), [(0.10, "breached"), (0.03, "within margin"), (0.05, "not yet decided")])
def test_guardrails(error: float, status: str) -> None:
    arms = [arm("none", 0, 10_000), arm("calm", 1, 10_000, error=error)]
    analysis = analyse(arms, "none", even(*arms), METRICS)
    difference = differences(analysis, "calm")["error"]
    guardrail = difference["guardrail"]
    assert guardrail["status"] == difference["verdict"] == status
    assert difference["text"].startswith(status)
    assert guardrail["harm"] == pytest.approx(difference["estimate"])
    low, high = difference["interval"]
    assert low < guardrail["at_least"] < guardrail["harm"] < guardrail["at_most"] < high
    assert (guardrail["at_least"] > 0.02) == (status == "breached")
    assert (guardrail["at_most"] < 0.02) == (status == "within margin")
    assert ("calm breaches the guardrail error" in analysis["verdict"]) == (status == "breached")


def test_harm_of_a_metric_of_which_more_is_better() -> None:
    arms = [arm("none", 0, 10_000), arm("calm", 1, 10_000, correct=0.4)]
    guardrail = Metric("correct", "higher", "guardrail", margin=0.05)
    assert (
        differences(analyse(arms, "none", even(*arms), [guardrail]), "calm")["correct"]["guardrail"]["status"]
        == "breached"
    )


def test_a_metric_of_neither_direction_is_different() -> None:
    arms = [arm("none", 0), arm("calm", 1, tokens=300)]
    assert (
        differences(analyse(arms, "none", even(*arms), [Metric("tokens", "neither", "decision")]), "calm")["tokens"][
            "verdict"
        ]
        == "different"
    )


def test_a_failing_sample_ratio_hides_every_verdict() -> None:
    arms = [arm("none", 0), arm("calm", 1, tokens=300, error=0.3)]
    epochs = [Stratum({"none": 0.5, "calm": 0.5}, {"none": 3000, "calm": 2000})]
    analysis = analyse(arms, "none", epochs, METRICS)
    assert not analysis["sample_ratio"]["passed"]
    assert analysis["verdict"] is None
    for one in differences(analysis, "calm").values():
        assert (one["verdict"], one["text"]) == (None, None)
        assert one["guardrail"] is None or one["guardrail"]["status"] is None
        assert one["interval"] is not None
    assert next(iter(analysis)) == "sample_ratio"


def test_latency_is_reported_with_its_warning_save_for_time_slices() -> None:
    arms = [arm("none", 0), arm("calm", 1)]
    by_request, by_slice = (analyse(arms, "none", even(*arms), METRICS, unit=unit) for unit in ("request", "slice"))
    assert "share one engine" in by_request["metrics"]["latency_seconds"]["warning"]
    assert by_slice["metrics"]["latency_seconds"]["warning"] is None
    assert by_request["metrics"]["tokens"]["warning"] is None


def test_more_requests_until_an_effect_shows() -> None:
    arms = [arm("none", 0), arm("calm", 1)]
    usual = differences(analyse(arms, "none", even(*arms), METRICS), "calm")
    custom = differences(analyse(arms, "none", even(*arms), METRICS, effects={"tokens": 10.0}), "calm")
    assert usual["tokens"]["more_requests"]["source"] == "5% of the control's mean"
    assert usual["tokens"]["more_requests"]["effect"] == pytest.approx(25, rel=0.05)
    assert usual["error"]["more_requests"]["source"] == "margin"
    assert custom["tokens"]["more_requests"]["source"] == "given"
    assert custom["tokens"]["more_requests"]["requests"] > 4 * usual["tokens"]["more_requests"]["requests"]


def test_the_more_requests_are_enough() -> None:
    """An experiment that runs for the reported number of requests finds the effect in four cases of five."""
    found = []
    for seed in range(40):
        arms = [arm("none", seed, 1000), arm("calm", 1000 + seed, 1000, correct=0.42)]
        said = differences(analyse(arms, "none", even(*arms), [CORRECT], effects={"correct": 0.08}), "calm")["correct"]
        units = 1000 + said["more_requests"]["requests"] // 2
        later = [arm("none", 2000 + seed, units), arm("calm", 3000 + seed, units, correct=0.42)]
        found.append(
            differences(analyse(later, "none", even(*later), [CORRECT]), "calm")["correct"]["verdict"] == "worse"
        )
    assert 0.6 <= np.mean(found) <= 0.95


def test_triggered_differences_are_a_family_of_their_own() -> None:
    random = np.random.default_rng(5)
    control, some = arm("none", 0), arm("calm", 1)
    chosen = random.random((2, 3000)) < 0.3
    for row, one in zip(chosen, (control, some), strict=True):
        one.metrics["tokens"].sums[row] -= 200 if one is some else 0
    triggered = [
        Sums(np.ones(int(row.sum())), one.metrics["tokens"].sums[row])
        for row, one in zip(chosen, (control, some), strict=True)
    ]
    calm = Arm("calm", some.metrics, {"tokens": triggered[1]}, {"tokens": triggered[0]})
    difference = differences(analyse([control, calm], "none", even(control, calm), METRICS), "calm")
    found = difference["tokens"]["triggered"]
    assert found["p_value_holm"] == pytest.approx(min(1, 2 * found["p_value"]))
    assert found["interval"][1] < 0
    assert found["diluted"]["estimate"] == pytest.approx(-60, abs=15)
    assert difference["correct"]["triggered"] is None


def test_an_arm_without_data_and_a_metric_without_values() -> None:
    arms = [arm("none", 0), Arm("calm", {}, {}, {})]
    analysis = analyse(arms, "none", [], [*METRICS, Metric("solved", "higher", "decision")])
    for one in differences(analysis, "calm").values():
        assert (one["estimate"], one["interval"], one["p_value"], one["reason"]) == (None, None, 1.0, "no values yet")
        assert one["verdict"] in (None, "not yet decided")
    assert analysis["metrics"]["solved"]["arms"]["none"] == {
        "units": 0,
        "requests": 0,
        "mean": None,
        "interval": None,
        "reason": "no values yet",
    }
    assert analysis["verdict"] == "nothing is decided yet"


def test_warnings() -> None:
    broken = Arm("calm", {"tokens": Sums(np.ones(3), np.array([1.0, np.nan, np.inf]))}, {}, {})
    arms = [arm("none", 0), broken]
    analysis = analyse(arms, "none", [Stratum({"none": 0.5, "calm": 0.1}, {}), Stratum({"calm": 0.4}, {})], [TOKENS])
    assert analysis["warnings"][0] == "2 units of calm have values of tokens that are not numbers; they are left out"
    assert "weights have changed" in analysis["warnings"][1]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"control": "nobody"}, "the control 'nobody' is none of the arms none, calm"),
        ({"alpha": 0.0}, "alpha is 0.0"),
        ({"alpha": float("nan")}, "alpha is nan"),
        ({"effects": {"tokens": -1.0}}, "effects are sizes above 0"),
        ({"metrics": [TOKENS, TOKENS]}, "come twice: tokens"),
        ({"arms": [arm("none", 0, 5), arm("none", 0, 5)]}, "come twice: none"),
    ],
)
def test_wrong_input(change: dict[str, Any], said: str) -> None:
    arms = [arm("none", 0, 5), arm("calm", 1, 5)]
    with pytest.raises(ValueError, match=said):
        analyse(**{"arms": arms, "control": "none", "strata": even(*arms), "metrics": METRICS, **change})


def test_wrong_metrics() -> None:
    with pytest.raises(ValueError, match="needs a direction"):
        Metric("error", "neither", "guardrail")
    for margin in (-0.1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="at least 0"):
            Metric("error", "lower", "guardrail", margin=margin)


NUMBERS = st.one_of(st.floats(), st.sampled_from([0.0, 1.0, 1e308, -1e308, 5e-324]))
COLUMNS = st.lists(st.tuples(st.one_of(st.floats(), st.integers(0, 1000).map(float)), NUMBERS), max_size=6)


@settings(max_examples=60, deadline=None)
@given(
    columns=st.lists(COLUMNS, min_size=4, max_size=4),
    repeats=st.sampled_from([1, 40, 150]),
    alpha=st.floats(1e-9, 0.999),
)
def test_the_analysis_of_any_data_is_valid_json(
    columns: list[list[tuple[float, float]]], repeats: int, alpha: float
) -> None:
    sums = [Sums(*np.array(column * repeats, np.float64).reshape(-1, 2).T) for column in columns]
    metrics = [Metric("x", "higher", "decision"), Metric("y", "lower", "guardrail", 0.1)]
    arms = [
        Arm("a", {"x": sums[0], "y": sums[1]}, {}, {}),
        Arm("b", {"x": sums[2], "y": sums[3]}, {"x": sums[2]}, {"x": sums[0]}),
    ]
    analysis = analyse(arms, "a", even(*arms), metrics, alpha)
    json.dumps(analysis, allow_nan=False)
    for one in differences(analysis, "b").values():
        assert one["p_value"] is not None
        assert one["interval"] is None or one["interval"][0] <= one["estimate"] <= one["interval"][1]


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), alpha=st.floats(0.001, 0.4))
def test_a_larger_alpha_decides_no_less(seed: int, alpha: float) -> None:
    arms = [arm("none", seed, 500), arm("calm", seed + 1, 500, tokens=430)]
    strict, loose = (analyse(arms, "none", even(*arms), METRICS, level) for level in (alpha, 2 * alpha))
    for metric in ("tokens", "correct"):
        one, other = differences(strict, "calm")[metric], differences(loose, "calm")[metric]
        assert one["p_value"] == other["p_value"]
        assert one["interval"][0] < other["interval"][0] < other["interval"][1] < one["interval"][1]
        assert one["verdict"] in ("not yet decided", other["verdict"])
