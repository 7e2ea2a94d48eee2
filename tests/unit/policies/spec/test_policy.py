"""The policy language: valid policies, rejected ones with their errors, and digests."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from pydantic import ValidationError

from forkpoint_policies.spec import MAX_RULES, InputError, parse_policy
from tests.unit.policies.factories import Json, policy, rule

from .wrong_input import Wrong, amplify, check_rejected, do, suppress, when

CALM: Json = {
    "name": "calm",
    "description": "Fewer second thoughts.",
    "source": "arXiv:2506.08343",
    "rules": [
        {
            "when": {"entropy_above": 0.672, "region": "reasoning", "at_most": 3},
            "do": {"suppress": {"connectors": ["reflection"], "words": ["hold on"], "token_ids": [7, 9], "bias": -8.0}},
        },
        {"when": {"after_token": 2, "before_token": 90, "top_probability_below": 0.5}, "do": {"temperature": 1.2}},
        {"do": {"observe": {}}},
    ],
}


WRONG: Wrong = {
    # what a policy is
    "null": (None, "policy", "must be an object with `rules`"),
    "a list": ([], "policy", "must be an object with `rules`, not list"),
    "a string": ("calm", "policy", "must be an object"),
    "no rules": ({}, "policy.rules", "is missing"),
    "rules as an object": ({"rules": {}}, "policy.rules", "must be a list"),
    "a rule as a string": ({"rules": ["suppress"]}, "policy.rules[0]", "must be an object"),
    "too many rules": (policy(*[rule(observe={})] * (MAX_RULES + 1)), "policy.rules", "at most 16"),
    "a name with a space": (policy(name="my policy"), "policy.name", "lower-case letters, digits"),
    "a name in capitals": (policy(name="Calm"), "policy.name", "lower-case letters, digits"),
    "an empty name": (policy(name=""), "policy.name", "begin with a letter or digit"),
    "a long name": (policy(name="a" * 65), "policy.name", "at most 64"),
    "a name with a line's end": (policy(name="calm\n"), "policy.name", "lower-case letters"),
    "a number as a name": (policy(name=3), "policy.name", "string"),
    "a number as a description": (policy(description=3), "policy.description", "string"),
    "shadow as a word": (policy(shadow="yes"), "policy.shadow", "boolean"),
    "shadow as a number": (policy(shadow=1), "policy.shadow", "boolean"),
    # unknown fields, at each level
    "unknown field": (policy(rulez=[]), "policy.rulez", "here one can write name, description, source, shadow, rules"),
    "unknown field of a rule": (
        {"rules": [{"if": {}, "do": {"observe": {}}}]}, "policy.rules[0].if", "one can write when, do",
    ),
    "unknown action": (
        do(jump={}), "policy.rules[0].do.jump", "one can write suppress, amplify, temperature, truncate, force",
    ),
    # actions
    "no do": ({"rules": [{"when": {}}]}, "policy.rules[0].do", "is missing"),
    "no action": (do(), "policy.rules[0].do", "exactly one action of suppress, amplify, .*, observe; it holds none"),
    "two actions": (
        do(temperature=1.0, observe={}), "policy.rules[0].do", "exactly one action .* it holds observe, temperature",
    ),
    "a null action": (do(suppress=None), "policy.rules[0].do", "exactly one action"),
    "an action and a null": (do(temperature=1.0, suppress=None), "policy.rules[0].do", "exactly one action"),
    "do as a list": ({"rules": [{"do": []}]}, "policy.rules[0].do", "must be an object"),
    "in a later rule": (
        policy(rule(observe={}), rule(temperature="x")), "policy.rules[1].do.temperature", "valid number",
    ),
    # rules whose parts contradict each other
    "reasoning that is over": (
        {"rules": [{"when": {"region": "answer"}, "do": {"end_reasoning": {}}}]}, "policy.rules[0]", "already ended",
    ),
    "a control with conditions": (
        {"rules": [{"when": {"at_most": 1}, "do": {"control": {"like": {"do": {"stop": {}}}, "match": "positions"}}}]},
        "policy.rules[0]", "do.control.like.when",
    ),
    "inside a control": (
        do(control={"like": {"do": {"jump": {}}}, "match": "count"}),
        "policy.rules[0].do.control.like.do.jump", "one can write",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("data", "field", "right"), WRONG.values(), ids=WRONG.keys())
def test_wrong_input_names_its_field_and_what_would_be_right(data: Any, field: str, right: str) -> None:
    check_rejected(data, field, right)


def test_a_fields_path_starts_at_the_path_of_the_policy() -> None:
    with pytest.raises(InputError) as caught:
        parse_policy(suppress(bias=-1), "arms[1].policy")
    assert caught.value.field == "arms[1].policy.rules[0].do.suppress"


@pytest.mark.parametrize(
    "data",
    [
        CALM,
        policy(),
        suppress(words=["wait"]),
        suppress(words=["wait"], bias=None),
        suppress(connectors=[], token_ids=[0]),
        suppress(words=["等等", "in conclusion"], bias=-1000),
        amplify(token_ids=[5], bias=1000),
        when(entropy_above="fork"),
        when(entropy_above="fork", entropy_below=0.1),
        when(entropy_above=0, entropy_below=50, top_probability_above=0, top_probability_below=1),
        when(connectors=["reflection", "conclusion"], connector_probability_above=0.0),
        when(region="any", after_token=0, before_token=1, at_most=1),
        do(temperature=1),
        policy(*[rule(observe={})] * MAX_RULES, name="0.a_b-c"),
    ],
)
def test_right_input(data: Json) -> None:
    read = parse_policy(data)
    assert len(read.rules) == len(data["rules"])
    written = json.loads(read.model_dump_json(exclude_unset=True))
    assert parse_policy(written) == read, "a serialised policy can be parsed again"
    assert parse_policy(written).digest == read.digest


def test_the_fields_of_a_parsed_policy() -> None:
    read = parse_policy(CALM)
    first, second, third = read.rules
    assert (read.name, read.shadow, len(read.rules)) == ("calm", False, 3)
    assert [one.do.action for one in read.rules] == ["suppress", "temperature", "observe"]
    assert first.do.suppress is not None
    assert (first.do.suppress.connectors, first.do.suppress.token_ids, first.do.suppress.bias) == (
        ("reflection",),
        (7, 9),
        -8.0,
    )
    assert (first.when.entropy_above, first.when.region, first.when.at_most) == (0.672, "reasoning", 3)
    assert (second.when.after_token, second.when.before_token, second.do.temperature) == (2, 90, 1.2)
    assert third.when.region == "any"
    assert parse_policy(policy()).name == "inline"


# Digests: stored in databases and experiments, so they must not change unintentionally.


def test_digests_are_stable() -> None:
    assert parse_policy(CALM).digest == "42961a59"


def test_equivalent_policies_have_the_same_digest() -> None:
    """The order of fields, explicit defaults, and integers for floats do not change it."""
    reordered = json.loads(json.dumps(CALM, sort_keys=True))
    reordered["shadow"] = False
    reordered["rules"][0]["do"]["suppress"]["bias"] = -8
    reordered["rules"][2]["when"] = {"region": "any", "entropy_above": None}
    assert parse_policy(reordered).digest == parse_policy(CALM).digest


CHANGES: list[tuple[str, Any]] = [
    ("name", "calmer"), ("description", ""), ("source", "arXiv:2501.18585"), ("shadow", True),
    ("rules", CALM["rules"][:2]), ("rules", CALM["rules"][::-1]), ("rules.0.when", {}),
    ("rules.0.when.entropy_above", 0.6721), ("rules.0.when.entropy_above", "fork"), ("rules.0.when.entropy_below", 5),
    ("rules.0.when.region", "answer"), ("rules.0.when.at_most", 4), ("rules.0.do.suppress.connectors", ["conclusion"]),
    ("rules.0.do.suppress.words", ["hold"]), ("rules.0.do.suppress.token_ids", [9, 7]),
    ("rules.0.do.suppress.bias", None), ("rules.0.do.suppress.bias", -8.5), ("rules.1.do", {"observe": {}}),
    ("rules.1.do.temperature", 1.1), ("rules.1.when.after_token", 3), ("rules.1.when.before_token", 91),
    ("rules.1.when.top_probability_below", 0.4), ("rules.1.when.top_probability_above", 0.1),
    ("rules.2.when", {"varentropy_above": 0}), ("rules.2.when", {"varentropy_below": 0.1}),
    ("rules.2.when", {"connectors": ["execution"], "connector_probability_above": 0.1}),
]  # fmt: skip


def test_a_digest_changes_with_any_part() -> None:
    digests = {parse_policy(CALM).digest}
    for path, value in CHANGES:
        changed = json.loads(json.dumps(CALM))
        *parents, last = path.split(".")
        part = changed
        for parent in parents:
            part = part[int(parent)] if parent.isdigit() else part[parent]
        part[last] = value
        digests.add(parse_policy(changed).digest)
    assert len(digests) == 1 + len(CHANGES)
    assert all(re.fullmatch("[0-9a-f]{8}", digest) for digest in digests)


def test_in_shadow() -> None:
    active = parse_policy(CALM)
    shadow = active.in_shadow()
    assert (shadow.shadow, active.shadow) == (True, False)
    assert (shadow.name, shadow.rules) == (active.name, active.rules)
    assert shadow.digest == parse_policy({**CALM, "shadow": True}).digest != active.digest


def test_a_policy_does_not_change_and_can_be_a_key() -> None:
    read = parse_policy(CALM)
    with pytest.raises(ValidationError, match="frozen"):
        read.name = "other"
    assert {read: 1}[parse_policy(CALM)] == 1


@pytest.mark.parametrize(
    ("fields", "digest"), [({}, "4319990c"), ({"fill": "sample"}, "c5b21eda"), ({"fill": "none"}, "fe6d57d3")]
)
def test_a_branch_has_the_digest_that_it_had_before_it_filled_by_default(fields: Json, digest: str) -> None:
    """One that says `none` used to have that of the default."""
    assert parse_policy({"rules": [{"do": {"branch": {"width": 2, **fields}}}]}).digest == digest
