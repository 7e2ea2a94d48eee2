"""The conditions of a rule: what is rejected."""

from __future__ import annotations

import math
from typing import Any

import pytest

from .wrong_input import Wrong, check_rejected, when

NAN, INFINITY = math.nan, math.inf

WRONG: Wrong = {
    "unknown condition": (
        when(entropy=1), "policy.rules[0].when.entropy", "here one can write entropy_above, entropy_below",
    ),
    "when as a list": ({"rules": [{"when": [], "do": {"observe": {}}}]}, "policy.rules[0].when", "must be an object"),
    "a mean entropy's window alone": (
        when(mean_entropy_window=8), "policy.rules[0].when", "add mean_entropy_below",
    ),
    "a readout without a name": (
        when(readout_above={"value": 0.5}), "policy.rules[0].when.readout_above.name", "missing",
    ),
    "a readout's NaN": (
        when(readout_above={"name": "x", "value": NAN}), "policy.rules[0].when.readout_above.value", "finite number",
    ),
    "no readout between": (
        when(readout_above={"name": "x", "value": 0.5}, readout_below={"name": "x", "value": 0.5}),
        "policy.rules[0].when", "must be the smaller one",
    ),
    "a rank's window alone": (when(rank_window=8), "policy.rules[0].when", "add one of effective_rank_above"),
    "a rank's stride alone": (when(rank_stride=8), "policy.rules[0].when", "add one of effective_rank_above"),
    "an effective rank of no dimension": (
        when(effective_rank_below=0.5), "policy.rules[0].when.effective_rank_below", "greater than or equal to 1",
    ),
    "NaN effective rank": (
        when(effective_rank_above=NAN), "policy.rules[0].when.effective_rank_above", "finite number",
    ),
    "a window of one state": (
        when(effective_rank_above=2, rank_window=1), "policy.rules[0].when.rank_window", "greater than or equal to 2",
    ),
    "no effective rank between": (
        when(effective_rank_above=9, effective_rank_below=5), "policy.rules[0].when", "must be the smaller one",
    ),
    "a temperature alone": (when(at_temperature=0.6), "policy.rules[0].when", "add one of entropy_above"),
    "a rank that nothing is below": (
        when(end_of_reasoning_rank_below=1), "policy.rules[0].when.end_of_reasoning_rank_below", "equal to 2",
    ),
    "a rank in the answer": (
        when(end_of_reasoning_rank_below=3, region="answer"), "policy.rules[0]", "the reasoning has already ended",
    ),
    "negative entropy": (
        when(entropy_above=-1), "policy.rules[0].when.entropy_above", "greater than or equal to 0 or 'fork'",
    ),
    "NaN entropy": (when(entropy_above=NAN), "policy.rules[0].when.entropy_above", "finite number or 'fork'"),
    "infinite entropy": (when(entropy_below=INFINITY), "policy.rules[0].when.entropy_below", "finite number or 'fork'"),
    "entropy as a word": (when(entropy_above="high"), "policy.rules[0].when.entropy_above", "valid number or 'fork'"),
    "entropy as true": (when(entropy_above=True), "policy.rules[0].when.entropy_above", "valid number or 'fork'"),
    "negative varentropy": (
        when(varentropy_above=-0.5), "policy.rules[0].when.varentropy_above", "greater than or equal to 0",
    ),
    "NaN varentropy": (when(varentropy_below=NAN), "policy.rules[0].when.varentropy_below", "finite number"),
    "a probability above 1": (
        when(top_probability_above=1.5), "policy.rules[0].when.top_probability_above", "or equal to 1",
    ),
    "a negative probability": (
        when(top_probability_below=-0.1), "policy.rules[0].when.top_probability_below", "or equal to 0",
    ),
    "connector mass of nothing": (when(connector_probability_above=0.1), "policy.rules[0].when", "needs `connectors`"),
    "likeliest of nothing": (when(connector_likeliest=True), "policy.rules[0].when", "needs `connectors` or `words`"),
    "connectors alone": (when(connectors=["reflection"]), "policy.rules[0].when", "add connector_probability_above"),
    "mass of a wrong family": (
        when(connectors=["x"], connector_probability_above=0), "policy.rules[0].when", "there are refl",
    ),
    "an unknown region": (when(region="thinking"), "policy.rules[0].when.region", "'reasoning', 'answer' or 'any'"),
    "a negative position": (when(after_token=-1), "policy.rules[0].when.after_token", "greater than or equal to 0"),
    "a position in quotes": (when(after_token="3"), "policy.rules[0].when.after_token", "valid integer"),
    "a fraction as position": (when(before_token=1.5), "policy.rules[0].when.before_token", "valid integer"),
    "at most never": (when(at_most=0), "policy.rules[0].when.at_most", "greater than or equal to 1"),
    "no position between": (
        when(after_token=5, before_token=5), "policy.rules[0].when", "both after_token 5 and before_token 5",
    ),
    "no entropy between": (
        when(entropy_above=2, entropy_below=1), "policy.rules[0].when", "the first must be the smaller one",
    ),
    "no entropy between forks": (
        when(entropy_above="fork", entropy_below="fork"), "policy.rules[0].when", "the smaller one",
    ),
    "no varentropy between": (
        when(varentropy_above=1, varentropy_below=1), "policy.rules[0].when", "has varentropy_above 1",
    ),
    "no probability between": (
        when(top_probability_above=0.6, top_probability_below=0.5), "policy.rules[0].when", "no position",
    ),
    "a window alone": (when(confidence_window=5), "policy.rules[0].when", "add confidence_below"),
    "a window too wide": (
        when(confidence_below=1.0, confidence_window=5000),
        "policy.rules[0].when.confidence_window", "less than or equal to 2048",
    ),
    "how to match no endings": (
        when(previous={"words": ["so"], "ending_match": "token"}), "policy.rules[0].when.previous", "none are given",
    ),
    "a blank word before": (when(previous={"words": [" "]}), "policy.rules[0].when.previous", "visible character"),
}  # fmt: skip


@pytest.mark.parametrize(("data", "field", "right"), WRONG.values(), ids=WRONG.keys())
def test_wrong_input_names_its_field_and_what_would_be_right(data: Any, field: str, right: str) -> None:
    check_rejected(data, field, right)
