"""A probe says how the reasoning ends, and what says nothing beside that is an error that names the field."""

from __future__ import annotations

from typing import Any

import pytest

from forkpoint_policies.spec import InputError, parse_policy

PROBE = "policy.rules[0].do.probe"
SURE = {"probability_above": 0.9}
MEASURE = {"do": {"probe": {"measure_only": True}}}
WAITS = {"when": {"probe_confidence_above": 0.9}, "do": {"suppress": {"words": ["wait"]}}}


def probe(**fields: Any) -> dict[str, Any]:
    return {"rules": [{"do": {"probe": fields}}]}


WRONG: dict[str, tuple[dict[str, Any], str, str]] = {
    "no end": (probe(tokens=5), PROBE, "exactly one of probability_above"),
    "two ends": (probe(agreement=2, **SURE), PROBE, "exactly one of"),
    "a span without a mean": (probe(agreement=2, span={}), PROBE, "span says nothing"),
    "a span of nothing": (probe(tokens=3, span={"skip": 3}, **SURE), PROBE, "leaves none of the 3"),
    "doubts of no answer": (probe(rejects=["no"], **SURE), PROBE, "rejects says nothing"),
    "no marker to be before": (
        probe(place="reasoning", before="x", **SURE), PROBE, "before says nothing",
    ),
    "an end after the end": (probe(end_of_reasoning_within=1.0), PROBE, "needs place 'reasoning'"),
    "an answer of no extractor": (
        probe(end_reasoning={"after": "{answer}"}, **SURE), PROBE, "needs agreement",
    ),
    "nothing to drop": (probe(drop="previous", **SURE), "policy.rules[0]", "needs when.previous"),
    "fewer trials than needed": (
        {"rules": [{"when": {"at_most": 3}, "do": {"probe": {"agreement": 2, "fewest": 4}}}]},
        "policy.rules[0]", "fewer than the 4 trial answers",
    ),
    "fewer positions than needed": (
        {"rules": [{"when": {"after_token": 1, "before_token": 100, "every": 25}, "do": {"probe": {"agreement": 4}}}]},
        "policy.rules[0]", "leaves 3 positions",
    ),
    "a limit and no probe": ({"rules": [WAITS]}, "policy", "rules[0].when.probe_confidence_above needs another rule"),
    "a measure and no rule": ({"rules": [MEASURE]}, "policy", "needs a rule with when.probe_confidence_above"),
    "two limits": (
        {"rules": [MEASURE, WAITS, {**WAITS, "when": {"probe_confidence_above": 0.5}}]}, "policy", "give them one",
    ),
    "a chance of nothing measured": (probe(in_proportion=True, **SURE), PROBE, "without measure_only"),
    "a measure that ends": (
        probe(measure_only=True, **SURE), PROBE, "says nothing with measure_only",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("written", "field", "right"), WRONG.values(), ids=WRONG.keys())
def test_what_is_wrong_with_a_probe(written: dict[str, Any], field: str, right: str) -> None:
    with pytest.raises(InputError) as error:
        parse_policy(written)
    assert error.value.field == field
    assert right in error.value.message
    assert len(str(error.value)) < 400


def test_the_fewest_trial_answers_before_an_end() -> None:
    def needed(**fields: Any) -> int:
        found = parse_policy(probe(**fields)).rules[0].do.probe
        assert found is not None
        return found.needed

    assert needed(**SURE) == 1
    assert needed(variance_below=1.0) == 2
    assert needed(agreement=5, fewest=3) == 5
    assert needed(agreement=5, fewest=9) == 9
