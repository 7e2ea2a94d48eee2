"""Sets of tokens, temperatures and schedules: what is rejected, and the bounds of a schedule."""

from __future__ import annotations

import math
from typing import Any

import pytest

from forkpoint_policies.spec import InputError, parse_policy

from .wrong_input import Wrong, amplify, check_rejected, do, suppress, when

NAN, INFINITY = math.nan, math.inf

WRONG: Wrong = {
    # sets of tokens
    "no tokens": (suppress(), "policy.rules[0].do.suppress", "give a non-empty list of connectors, words or token_ids"),
    "only a bias": (suppress(bias=-1.0), "policy.rules[0].do.suppress", "non-empty list"),
    "empty connectors": (suppress(connectors=[]), "policy.rules[0].do.suppress", "non-empty list"),
    "empty words": (suppress(words=[]), "policy.rules[0].do.suppress", "non-empty list"),
    "empty token_ids": (amplify(token_ids=[], bias=1), "policy.rules[0].do.amplify", "non-empty list"),
    "an unknown family": (
        suppress(connectors=["doubt"]), "policy.rules[0].do.suppress", "family 'doubt'; there are reflection,",
    ),
    "a family as a string": (
        suppress(connectors="reflection"), "policy.rules[0].do.suppress.connectors", "must be a list",
    ),
    "words as a string": (suppress(words="wait"), "policy.rules[0].do.suppress.words", "must be a list"),
    "a number as a word": (suppress(words=["wait", 3]), "policy.rules[0].do.suppress.words[1]", "string"),
    "an empty word": (suppress(words=["wait", ""]), "policy.rules[0].do.suppress.words[1]", "at least 1 character"),
    "a blank word": (
        suppress(words=[" \n"]), "policy.rules[0].do.suppress", "is blank; a word has at least one visible character",
    ),
    "a long word": (suppress(words=["a" * 65]), "policy.rules[0].do.suppress.words[0]", "at most 64"),
    "an unpaired surrogate": (suppress(words=["\ud800"]), "policy.rules[0].do.suppress.words[0]", "valid string"),
    "a negative token id": (
        suppress(token_ids=[1, -1]), "policy.rules[0].do.suppress.token_ids[1]", "greater than or equal to 0",
    ),
    "a fraction as token id": (suppress(token_ids=[1.5]), "policy.rules[0].do.suppress.token_ids[0]", "integer"),
    "a string as token id": (suppress(token_ids=["7"]), "policy.rules[0].do.suppress.token_ids[0]", "integer"),
    "true as token id": (suppress(token_ids=[True]), "policy.rules[0].do.suppress.token_ids[0]", "integer"),
    "token_ids that is not a list": (suppress(token_ids=7), "policy.rules[0].do.suppress.token_ids", "must be a list"),
    "another way to match": (suppress(words=["a"], match="lower"), "policy.rules[0].do.suppress.match", "any_case"),
    "a match without words": (
        suppress(connectors=["reflection"], match="cased"), "policy.rules[0].do.suppress", "families match in any case",
    ),
    "a match without words in a condition": (
        when(connectors=["reflection"], match="cased", connector_probability_above=0.5),
        "policy.rules[0].when", "families match in any case",
    ),
    # temperatures
    "temperature -1": (do(temperature=-1), "policy.rules[0].do.temperature", "greater than or equal to 0"),
    "NaN temperature": (do(temperature=NAN), "policy.rules[0].do.temperature", "finite number"),
    "infinite temperature": (do(temperature=INFINITY), "policy.rules[0].do.temperature", "finite number"),
    "temperature as true": (do(temperature=True), "policy.rules[0].do.temperature", "valid number"),
    # schedules
    "half a schedule": (
        do(amplify={"words": ["a"], "bias": {"shape": "linear", "start": 1.0}}),
        "policy.rules[0].do.amplify.bias", "start, end, over",
    ),
    "another shape": (
        do(suppress={"words": ["a"], "bias": {"shape": "sine"}}), "policy.rules[0].do.suppress.bias.shape", "linear",
    ),
    "a chance above 1": (
        when(probability={"shape": "linear", "start": 2.0, "end": 0.0, "over": 5}),
        "policy.rules[0].when", "from 0 to 2",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("data", "field", "right"), WRONG.values(), ids=WRONG.keys())
def test_wrong_input_names_its_field_and_what_would_be_right(data: Any, field: str, right: str) -> None:
    check_rejected(data, field, right)


@pytest.mark.parametrize("end", [1e300, -1e300])
def test_the_ends_of_a_schedule_are_bounded(end: float) -> None:
    bias = {"shape": "linear", "start": 0, "end": end, "over": 10}
    action = "amplify" if end > 0 else "suppress"
    with pytest.raises(InputError, match=r"bias\.end: .*1000"):
        parse_policy({"rules": [{"do": {action: {"words": ["wait"], "bias": bias}}}]})
