"""Named policies with parameters, and the errors for wrong ones."""

from __future__ import annotations

from typing import Any

import pytest

from forkpoint_policies.catalog import Named, library
from forkpoint_policies.compile.compiler import compile_policy
from forkpoint_policies.library import LIBRARY
from forkpoint_policies.spec import InputError, Policy, parse_policy

from .factories import Json, policy, rule
from .vocabularies import TARGET, UNMARKED

KNOWN = {named.policy.name: named for named in library()}


def use(name: str, **values: Any) -> Policy:
    return KNOWN[name].use(values)


def test_each_entry_has_its_placebo_beside_it() -> None:
    compared = [name for name in LIBRARY if name != "reasoning-cap"]  # it is a control itself
    assert set(KNOWN) == {*LIBRARY, *(f"{name}.placebo" for name in compared)}
    assert all(KNOWN[name].to_dict()["placebo"] == f"{name}.placebo" for name in compared)


def test_parameters_change_the_rules_and_the_digest() -> None:
    plain, strong = use("switch-penalty"), use("switch-penalty", alpha=5)
    assert strong.rules[0].do.suppress is not None
    assert strong.rules[0].do.suppress.bias == -5.0
    assert strong.name == plain.name
    assert strong.digest != plain.digest
    assert use("switch-penalty", alpha=3.0, beta=600).digest == plain.digest


def test_a_placebo_takes_the_parameters_of_its_policy() -> None:
    made = use("switch-penalty.placebo", alpha=5, match="count").rules[0].do.control
    assert made is not None
    assert made.match == "count"
    assert made.like == use("switch-penalty", alpha=5).rules[0]


@pytest.mark.parametrize("name", list(LIBRARY))
def test_every_parameter_accepts_its_own_default(name: str) -> None:
    values = {key: parameter.default for key, parameter in LIBRARY[name].parameters.items()}
    assert LIBRARY[name].use(values) == LIBRARY[name].policy


TOGETHER: dict[tuple[str, str, str], Json] = {
    ("short-m", "answers", "minimum"): {"m": 1},
    ("short-m", "m", "maximum"): {"answers": 256},
    ("first-finish", "m", "maximum"): {"answers": 256},
    ("early-stop-consistency", "answers", "minimum"): {"window": 1},
    ("early-stop-consistency", "window", "maximum"): {"answers": 256},
    ("branch-first", "m", "maximum"): {"branches": 256},
}
"""Bounds that hold with another parameter than at its default: no more answers vote than there are."""


@pytest.mark.parametrize("name", list(LIBRARY))
def test_bounds_are_bounds(name: str) -> None:
    for key, parameter in LIBRARY[name].parameters.items():
        described = parameter.to_dict()
        for bound in ("minimum", "maximum"):
            if bound in described:
                others = TOGETHER.get((name, key, bound), {})
                compile_policy(LIBRARY[name].use({key: described[bound], **others}), TARGET)


WRONG: dict[str, tuple[str, Json, str, str]] = {
    "unknown": ("switch-penalty", {"gamma": 1}, "policy.with.gamma", "its parameters: alpha, beta"),
    "no parameters": ("nowait", {"alpha": 1}, "policy.with.alpha", "it has none"),
    "too small": ("switch-penalty", {"alpha": 0}, "policy.with.alpha", "a number from 0.01 to 100, not 0"),
    "not whole": ("switch-penalty", {"beta": 1.5}, "policy.with.beta", "must be a whole number"),
    "text": ("switch-penalty", {"beta": "6"}, "policy.with.beta", "must be a whole number from 1 to"),
    "boolean": ("dual-temperature", {"high": True}, "policy.with.high", "must be a number"),
    "another word": ("dual-temperature", {"threshold": "forks"}, "policy.with.threshold", "or 'fork'"),
    "an empty text": ("budget-force", {"text": ""}, "policy.with.text", "a text of 1 to 256 characters"),
    "too long a text": ("budget-force", {"text": "x" * 300}, "policy.with.text", "a text of 1 to 256 characters"),
    "not together": (
        "alpha-one",
        {"alpha": 100, "thinking_tokens": 1e6},
        "policy.with",
        "makes no policy: it.rules.*before_token",
    ),
    "match of a policy": ("nowait", {"match": "count"}, "policy.with.match", "is not a parameter of 'nowait'"),
    "unknown match": ("nowait.placebo", {"match": "size"}, "policy.with.match", "one of probability, count, frequency"),
    "a dose without a strength": (
        "nowait.placebo",
        {"match": "dose"},
        "policy.with.strength",
        "above 0 and at most 40 nats for match 'dose', not None; `forkpoint ab` finds it",
    ),
    "a strength without a dose": ("nowait.placebo", {"strength": 2}, "policy.with.strength", "is of match 'dose'"),
    "a strength of a policy": ("nowait", {"strength": 2}, "policy.with.strength", "is not a parameter of 'nowait'"),
    "impossible match": (
        "dual-temperature.placebo",
        {"match": "count"},
        "policy.with.match",
        "one of positions, dose, not 'count'",
    ),
}


@pytest.mark.parametrize(("name", "values", "field", "right"), WRONG.values(), ids=WRONG.keys())
def test_wrong_parameters(name: str, values: Json, field: str, right: str) -> None:
    with pytest.raises(InputError, match=right) as caught:
        use(name, **values)
    assert caught.value.field == field


def test_a_placebo_by_dose_has_the_strength_that_was_calibrated() -> None:
    by_dose = use("nowait.placebo", match="dose", strength=2.5)
    assert [rule.do.control.strength for rule in by_dose.rules if rule.do.control is not None] == [2.5]
    mixed = use("cgrs.placebo", match="dose", strength=2)
    assert {rule.do.control.match for rule in mixed.rules if rule.do.control is not None} == {"dose"}


def test_a_users_policy_has_a_placebo_too() -> None:
    calm = parse_policy({"name": "calm", **policy(rule({"entropy_above": 1.0}, temperature=0.5))})
    assert Named(calm).parameters == {}
    assert Named(calm).use({}) == calm


CANNOT: dict[str, tuple[Json, str, str]] = {
    "text that does not come back": (rule(force={"text": "</think>x"}), "force.text", "does not come back from"),
    "end without markers": (rule(end_reasoning={}), "end_reasoning", "--reasoning-parser"),
    "margin without markers": (
        rule({"end_of_reasoning_within": 1}, observe={}),
        "end_of_reasoning_within",
        "--reasoning-parser",
    ),
    "stop without a token": (rule(stop={}), "stop", "no token that ends its text"),
    "more than there are": (rule(truncate={"top_k": 900}), "truncate.top_k", "is more than the"),
    "an ending in a word": (
        rule({"previous": {"endings": ["done"]}}, observe={}),
        "endings[0]",
        "starts inside a word",
    ),
    "a long text": (rule(force={"text": "\x01" * 65}), "force.text", "65 tokens for the served model; 64 at most"),
    "bounds that cross": (
        rule({"entropy_above": 1.0, "entropy_below": "fork"}, observe={}),
        "when",
        "no position has entropy_above 1",
    ),
}


@pytest.mark.parametrize(("written", "field", "right"), CANNOT.values(), ids=CANNOT.keys())
def test_a_rule_that_the_served_model_cannot_apply_names_its_field(written: Json, field: str, right: str) -> None:
    def encode(text: str) -> list[int]:
        return [256] if "think" in text else list(text.encode())

    target = type(UNMARKED)(UNMARKED.vocabulary, 0.672, encode=encode)
    with pytest.raises(InputError, match=right) as caught:
        compile_policy(parse_policy(policy(written)), target)
    assert caught.value.field.endswith(field)


def test_rules_that_contradict_each_other() -> None:
    written = policy(rule(suppress={"words": ["wait", "so"]}), rule(amplify={"words": ["wait"], "bias": 1.0}))
    with pytest.raises(InputError, match=r"contradicts rules\[0\]") as caught:
        compile_policy(parse_policy(written), TARGET)
    assert caught.value.field == "policy.rules[1].do.amplify"
    other = policy(written["rules"][0], rule({"after_token": 9}, amplify={"words": ["wait"], "bias": 1.0}))
    compile_policy(parse_policy(other), TARGET)
