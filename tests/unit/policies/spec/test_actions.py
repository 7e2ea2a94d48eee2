"""The actions on one request's logits: what is rejected."""

from __future__ import annotations

import math
from typing import Any

import pytest

from .wrong_input import Wrong, amplify, check_rejected, do, suppress

NAN, INFINITY = math.nan, math.inf

WRONG: Wrong = {
    # unknown fields and other types
    "unknown field of suppress": (
        suppress(word=["a"]), "policy.rules[0].do.suppress.word", "connectors, words, token_ids, match, bias",
    ),
    "unknown field of amplify": (
        amplify(words=["a"], bias=1, by=2), "policy.rules[0].do.amplify.by", "one can write connectors",
    ),
    "unknown field of observe": (do(observe={"x": 1}), "policy.rules[0].do.observe.x", "here one can write nothing"),
    "suppress as a list": (do(suppress=["wait"]), "policy.rules[0].do.suppress", "must be an object"),
    "observe as true": (do(observe=True), "policy.rules[0].do.observe", "must be an object"),
    # biases
    "NaN bias": (suppress(words=["a"], bias=NAN), "policy.rules[0].do.suppress.bias", "finite number"),
    "infinite bias": (suppress(words=["a"], bias=-INFINITY), "policy.rules[0].do.suppress.bias", "finite number"),
    "a suppressing bias of 0": (suppress(words=["a"], bias=0), "policy.rules[0].do.suppress.bias", "less than 0"),
    "a raising bias to suppress": (suppress(words=["a"], bias=2.0), "policy.rules[0].do.suppress.bias", "less than 0"),
    "a huge bias": (
        suppress(words=["a"], bias=-1001), "policy.rules[0].do.suppress.bias", "greater than or equal to -1000",
    ),
    "a bias as a word": (suppress(words=["a"], bias="low"), "policy.rules[0].do.suppress.bias", "valid number"),
    "a bias in quotes": (suppress(words=["a"], bias="-8"), "policy.rules[0].do.suppress.bias", "valid number"),
    "a bias as a list": (suppress(words=["a"], bias=[-8]), "policy.rules[0].do.suppress.bias", "valid number"),
    "amplify without a bias": (amplify(words=["a"]), "policy.rules[0].do.amplify.bias", "is missing"),
    "amplify with a null": (amplify(words=["a"], bias=None), "policy.rules[0].do.amplify.bias", "valid number"),
    "a lowering bias to amplify": (
        amplify(words=["a"], bias=-2.0), "policy.rules[0].do.amplify.bias", "greater than 0",
    ),
    "infinite amplification": (amplify(words=["a"], bias=INFINITY), "policy.rules[0].do.amplify.bias", "finite number"),
    "a rising suppression": (
        do(suppress={"words": ["a"], "bias": {"shape": "linear", "start": -1.0, "end": 1.0, "over": 5}}),
        "policy.rules[0].do.suppress", "never above 0",
    ),
    # truncations and texts
    "two truncations": (do(truncate={"top_k": 1, "min_p": 0.1}), "policy.rules[0].do.truncate", "exactly one of top_k"),
    "an empty text": (do(force={"text": ""}), "policy.rules[0].do.force.text", "at least 1 character"),
    "another end": (
        do(force={"text": "a", "instead_of": "stop"}), "policy.rules[0].do.force.instead_of", "'end_of_reasoning'",
    ),
    "no such set": (do(stop={"instead_of": {}}), "policy.rules[0].do.stop.instead_of", "names no token"),
}  # fmt: skip


@pytest.mark.parametrize(("data", "field", "right"), WRONG.values(), ids=WRONG.keys())
def test_wrong_input_names_its_field_and_what_would_be_right(data: Any, field: str, right: str) -> None:
    check_rejected(data, field, right)
