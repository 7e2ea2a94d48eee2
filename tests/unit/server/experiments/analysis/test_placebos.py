"""Each arm beside its placebo: what is concluded, and when nothing is."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from statsmodels.stats.multitest import multipletests

from forkpoint_server.experiments.analysis.placebos import Dose, PlaceboPair, compare_with_placebos
from forkpoint_server.experiments.analysis.sums import Arm, Metric, Sums

CORRECT, TOKENS = Metric("correct", "higher", "decision"), Metric("tokens", "lower", "information")
UNITS = 3000
DOSE = Dose(100.0, 1000)


def arm(name: str, correct: float, seed: int) -> Arm:
    random, ones = np.random.default_rng(seed), np.ones(UNITS)
    samples = {"correct": random.binomial(1, correct, UNITS).astype(float), "tokens": random.gamma(2, 250, UNITS)}
    return Arm(name, {metric: Sums(ones, values) for metric, values in samples.items()}, {}, {})


def compare(placebo_dose: Dose, dose: Dose = DOSE, correct: float = 0.4, **more: Any) -> dict[str, Any]:
    pair = PlaceboPair(arm("ban", correct, 1), arm("random", 0.5, 2), dose, placebo_dose)
    (found,) = compare_with_placebos([pair], more.pop("metrics", (CORRECT, TOKENS)), 0.05, more.pop("sound", True))
    json.dumps(found, allow_nan=False)
    return found


def test_a_placebo_of_the_same_dose_supports_a_conclusion() -> None:
    found = compare(Dose(81.0, 1000))
    assert (found["dose"], found["placebo_dose"], found["ratio"]) == (0.1, 0.081, pytest.approx(0.81))
    assert found["conclusion"] == "beyond its placebo: worse in correct"
    correct, tokens = found["metrics"]["correct"], found["metrics"]["tokens"]
    assert correct["verdict"] == "worse"
    assert correct["interval"][0] < -0.1 < correct["interval"][1] < 0
    assert (tokens["verdict"], tokens["p_value_holm"]) == (None, None)
    assert tokens["interval"] is not None
    assert compare(Dose(81.0, 1000), correct=0.51)["conclusion"] == "beyond its placebo: not yet decided"


def test_a_weaker_placebo_supports_none_however_large_the_difference() -> None:
    found = compare(Dose(79.0, 1000))
    assert found["conclusion"] == "no conclusion: the placebo has 0.79 of its dose, less than 0.8"
    assert found["metrics"]["correct"]["verdict"] is None
    assert found["metrics"]["correct"]["interval"][1] < 0, "the difference itself is shown"


def test_what_earlier_versions_did_not_record_is_unknown() -> None:
    found = compare(Dose(unknown=40), Dose(unknown=2))
    assert (found["dose"], found["placebo_dose"], found["ratio"]) == (None, None, None)
    assert found["conclusion"] == "no conclusion: the doses are not known; of 42 requests no effect is recorded"
    assert found["requests_without_effect"] == 42
    partly = compare(Dose(90.0, 1000, unknown=5))
    assert partly["ratio"] == pytest.approx(0.9)
    assert partly["requests_without_effect"] == 5


def test_no_conclusion_of_what_changes_no_probabilities_or_is_not_decisive() -> None:
    assert compare(Dose(1.0, 1000), Dose(0.0, 1000))["conclusion"] == (
        "no conclusion: the policy changed no probabilities, so that it has no dose to compare"
    )
    assert compare(Dose(100.0, 1000), metrics=[TOKENS])["conclusion"] == (
        "no conclusion: no metric of the experiment has the role `decision`"
    )
    unsound = compare(Dose(100.0, 1000), sound=False)
    assert (unsound["conclusion"], unsound["metrics"]["correct"]["verdict"]) == (None, None)


def test_the_pairs_are_one_family() -> None:
    doses = Dose(100.0, 1000), Dose(100.0, 1000)
    pairs = [
        PlaceboPair(arm("a", 0.45, 3), arm("a0", 0.5, 4), *doses),
        PlaceboPair(arm("b", 0.46, 5), arm("b0", 0.5, 6), *doses),
    ]
    found = [one["metrics"]["correct"] for one in compare_with_placebos(pairs, [CORRECT], 0.05, sound=True)]
    expected = multipletests([one["p_value"] for one in found], method="holm")[1]
    assert [one["p_value_holm"] for one in found] == pytest.approx(expected.tolist())
