"""The policy language: valid policies, rejected ones with their errors, and digests."""

from __future__ import annotations

import json
import math
import re
from typing import Any

import pytest
from pydantic import ValidationError

from forkpoint_policies.spec import MAX_RULES, SCHEMA, Do, InputError, parse_policy
from forkpoint_policies.spec.json_schema import schema as schema_now
from tests.unit.policies.factories import Json, policy, rule

NAN, INFINITY = math.nan, math.inf

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


def suppress(**fields: Any) -> Json:
    return policy(rule(suppress=fields))


def amplify(**fields: Any) -> Json:
    return policy(rule(amplify=fields))


def when(**fields: Any) -> Json:
    return policy(rule(fields, observe={}))


def do(**fields: Any) -> Json:
    return policy(rule(**fields))


WRONG: dict[str, tuple[Any, str, str]] = {
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
    "unknown field of a rule": ({"rules": [{"if": {}, "do": {"observe": {}}}]}, "policy.rules[0].if", "one can write when, do"),
    "unknown condition": (when(entropy=1), "policy.rules[0].when.entropy", "here one can write entropy_above, entropy_below"),
    "unknown action": (do(jump={}), "policy.rules[0].do.jump", "one can write suppress, amplify, temperature, truncate, force"),
    "unknown field of suppress": (suppress(word=["a"]), "policy.rules[0].do.suppress.word", "connectors, words, token_ids, bias"),
    "unknown field of amplify": (amplify(words=["a"], bias=1, by=2), "policy.rules[0].do.amplify.by", "one can write connectors"),
    "unknown field of observe": (do(observe={"x": 1}), "policy.rules[0].do.observe.x", "here one can write nothing"),
    # actions
    "no do": ({"rules": [{"when": {}}]}, "policy.rules[0].do", "is missing"),
    "no action": (do(), "policy.rules[0].do", "exactly one action of suppress, amplify, .*, observe; it holds none"),
    "two actions": (do(temperature=1.0, observe={}), "policy.rules[0].do", "exactly one action .* it holds observe, temperature"),
    "a null action": (do(suppress=None), "policy.rules[0].do", "exactly one action"),
    "an action and a null": (do(temperature=1.0, suppress=None), "policy.rules[0].do", "exactly one action"),
    "do as a list": ({"rules": [{"do": []}]}, "policy.rules[0].do", "must be an object"),
    "suppress as a list": (do(suppress=["wait"]), "policy.rules[0].do.suppress", "must be an object"),
    "observe as true": (do(observe=True), "policy.rules[0].do.observe", "must be an object"),
    # sets of tokens
    "no tokens": (suppress(), "policy.rules[0].do.suppress", "give a non-empty list of connectors, words or token_ids"),
    "only a bias": (suppress(bias=-1.0), "policy.rules[0].do.suppress", "non-empty list"),
    "empty connectors": (suppress(connectors=[]), "policy.rules[0].do.suppress", "non-empty list"),
    "empty words": (suppress(words=[]), "policy.rules[0].do.suppress", "non-empty list"),
    "empty token_ids": (amplify(token_ids=[], bias=1), "policy.rules[0].do.amplify", "non-empty list"),
    "an unknown family": (suppress(connectors=["doubt"]), "policy.rules[0].do.suppress", "family 'doubt'; there are reflection,"),
    "a family as a string": (suppress(connectors="reflection"), "policy.rules[0].do.suppress.connectors", "must be a list"),
    "words as a string": (suppress(words="wait"), "policy.rules[0].do.suppress.words", "must be a list"),
    "a number as a word": (suppress(words=["wait", 3]), "policy.rules[0].do.suppress.words[1]", "string"),
    "an empty word": (suppress(words=["wait", ""]), "policy.rules[0].do.suppress.words[1]", "at least 1 character"),
    "a blank word": (suppress(words=[" \n"]), "policy.rules[0].do.suppress", "is blank; a word has at least one visible character"),
    "a long word": (suppress(words=["a" * 65]), "policy.rules[0].do.suppress.words[0]", "at most 64"),
    "an unpaired surrogate": (suppress(words=["\ud800"]), "policy.rules[0].do.suppress.words[0]", "valid string"),
    "a negative token id": (suppress(token_ids=[1, -1]), "policy.rules[0].do.suppress.token_ids[1]", "greater than or equal to 0"),
    "a fraction as token id": (suppress(token_ids=[1.5]), "policy.rules[0].do.suppress.token_ids[0]", "integer"),
    "a string as token id": (suppress(token_ids=["7"]), "policy.rules[0].do.suppress.token_ids[0]", "integer"),
    "true as token id": (suppress(token_ids=[True]), "policy.rules[0].do.suppress.token_ids[0]", "integer"),
    "token_ids that is not a list": (suppress(token_ids=7), "policy.rules[0].do.suppress.token_ids", "must be a list"),
    # numbers of actions
    "NaN bias": (suppress(words=["a"], bias=NAN), "policy.rules[0].do.suppress.bias", "finite number"),
    "infinite bias": (suppress(words=["a"], bias=-INFINITY), "policy.rules[0].do.suppress.bias", "finite number"),
    "a suppressing bias of 0": (suppress(words=["a"], bias=0), "policy.rules[0].do.suppress.bias", "less than 0"),
    "a raising bias to suppress": (suppress(words=["a"], bias=2.0), "policy.rules[0].do.suppress.bias", "less than 0"),
    "a huge bias": (suppress(words=["a"], bias=-1001), "policy.rules[0].do.suppress.bias", "greater than or equal to -1000"),
    "a bias as a word": (suppress(words=["a"], bias="low"), "policy.rules[0].do.suppress.bias", "valid number"),
    "a bias in quotes": (suppress(words=["a"], bias="-8"), "policy.rules[0].do.suppress.bias", "valid number"),
    "a bias as a list": (suppress(words=["a"], bias=[-8]), "policy.rules[0].do.suppress.bias", "valid number"),
    "amplify without a bias": (amplify(words=["a"]), "policy.rules[0].do.amplify.bias", "is missing"),
    "amplify with a null": (amplify(words=["a"], bias=None), "policy.rules[0].do.amplify.bias", "valid number"),
    "a lowering bias to amplify": (amplify(words=["a"], bias=-2.0), "policy.rules[0].do.amplify.bias", "greater than 0"),
    "infinite amplification": (amplify(words=["a"], bias=INFINITY), "policy.rules[0].do.amplify.bias", "finite number"),
    "temperature -1": (do(temperature=-1), "policy.rules[0].do.temperature", "greater than or equal to 0"),
    "NaN temperature": (do(temperature=NAN), "policy.rules[0].do.temperature", "finite number"),
    "infinite temperature": (do(temperature=INFINITY), "policy.rules[0].do.temperature", "finite number"),
    "temperature as true": (do(temperature=True), "policy.rules[0].do.temperature", "valid number"),
    # conditions
    "when as a list": ({"rules": [{"when": [], "do": {"observe": {}}}]}, "policy.rules[0].when", "must be an object"),
    "negative entropy": (when(entropy_above=-1), "policy.rules[0].when.entropy_above", "greater than or equal to 0 or 'fork'"),
    "NaN entropy": (when(entropy_above=NAN), "policy.rules[0].when.entropy_above", "finite number or 'fork'"),
    "infinite entropy": (when(entropy_below=INFINITY), "policy.rules[0].when.entropy_below", "finite number or 'fork'"),
    "entropy as a word": (when(entropy_above="high"), "policy.rules[0].when.entropy_above", "valid number or 'fork'"),
    "entropy as true": (when(entropy_above=True), "policy.rules[0].when.entropy_above", "valid number or 'fork'"),
    "negative varentropy": (when(varentropy_above=-0.5), "policy.rules[0].when.varentropy_above", "greater than or equal to 0"),
    "NaN varentropy": (when(varentropy_below=NAN), "policy.rules[0].when.varentropy_below", "finite number"),
    "a probability above 1": (when(top_probability_above=1.5), "policy.rules[0].when.top_probability_above", "or equal to 1"),
    "a negative probability": (when(top_probability_below=-0.1), "policy.rules[0].when.top_probability_below", "or equal to 0"),
    "connector mass of nothing": (when(connector_probability_above=0.1), "policy.rules[0].when", "needs `connectors`"),
    "connectors alone": (when(connectors=["reflection"]), "policy.rules[0].when", "add connector_probability_above"),
    "mass of a wrong family": (when(connectors=["x"], connector_probability_above=0), "policy.rules[0].when", "there are refl"),
    "an unknown region": (when(region="thinking"), "policy.rules[0].when.region", "'reasoning', 'answer' or 'any'"),
    "a negative position": (when(after_token=-1), "policy.rules[0].when.after_token", "greater than or equal to 0"),
    "a position in quotes": (when(after_token="3"), "policy.rules[0].when.after_token", "valid integer"),
    "a fraction as position": (when(before_token=1.5), "policy.rules[0].when.before_token", "valid integer"),
    "at most never": (when(at_most=0), "policy.rules[0].when.at_most", "greater than or equal to 1"),
    "no position between": (when(after_token=5, before_token=5), "policy.rules[0].when", "both after_token 5 and before_token 5"),
    "no entropy between": (when(entropy_above=2, entropy_below=1), "policy.rules[0].when", "the first must be the smaller one"),
    "no entropy between forks": (when(entropy_above="fork", entropy_below="fork"), "policy.rules[0].when", "the smaller one"),
    "no varentropy between": (when(varentropy_above=1, varentropy_below=1), "policy.rules[0].when", "has varentropy_above 1"),
    "no probability between": (when(top_probability_above=0.6, top_probability_below=0.5), "policy.rules[0].when", "no position"),
    "in a later rule": (policy(rule(observe={}), rule(temperature="x")), "policy.rules[1].do.temperature", "valid number"),
}  # fmt: skip


@pytest.mark.parametrize(("data", "field", "right"), WRONG.values(), ids=WRONG.keys())
def test_wrong_input_names_its_field_and_what_would_be_right(data: Any, field: str, right: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_policy(data)
    assert caught.value.field == field
    assert re.search(right, caught.value.message), caught.value.message
    assert str(caught.value) == f"{field}: {caught.value.message}"


@pytest.mark.parametrize("word", ["pydantic", "tuple", "dictionary", "instance", "Value error"])
def test_messages_are_in_the_users_terms(word: str) -> None:
    for data, _, _ in WRONG.values():
        with pytest.raises(InputError) as caught:
            parse_policy(data)
        assert word not in caught.value.message


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
    ("name", "calmer"), ("description", ""), ("source", "arXiv:2501.18585"), ("shadow", True), ("rules", CALM["rules"][:2]),
    ("rules", CALM["rules"][::-1]), ("rules.0.when", {}), ("rules.0.when.entropy_above", 0.6721),
    ("rules.0.when.entropy_above", "fork"), ("rules.0.when.entropy_below", 5), ("rules.0.when.region", "answer"),
    ("rules.0.when.at_most", 4), ("rules.0.do.suppress.connectors", ["conclusion"]), ("rules.0.do.suppress.words", ["hold"]),
    ("rules.0.do.suppress.token_ids", [9, 7]), ("rules.0.do.suppress.bias", None), ("rules.0.do.suppress.bias", -8.5),
    ("rules.1.do", {"observe": {}}), ("rules.1.do.temperature", 1.1), ("rules.1.when.after_token", 3),
    ("rules.1.when.before_token", 91), ("rules.1.when.top_probability_below", 0.4), ("rules.1.when.top_probability_above", 0.1),
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


@pytest.mark.parametrize("end", [1e300, -1e300])
def test_the_ends_of_a_schedule_are_bounded(end: float) -> None:
    bias = {"shape": "linear", "start": 0, "end": end, "over": 10}
    action = "amplify" if end > 0 else "suppress"
    with pytest.raises(InputError, match=r"bias\.end: .*1000"):
        parse_policy({"rules": [{"do": {action: {"words": ["wait"], "bias": bias}}}]})


def test_the_json_schema_lists_the_fields() -> None:
    schema = json.loads(SCHEMA.read_text())
    assert schema == json.loads(schema_now()), "run make schema"
    assert schema["required"] == ["rules"]
    assert set(schema["properties"]) == {"name", "description", "source", "shadow", "rules"}
    assert schema["additionalProperties"] is False
    assert set(schema["$defs"]["Do"]["properties"]) == set(Do.model_fields)


MORE_WRONG: dict[str, tuple[Any, str, str]] = {
    "half a schedule": (
        do(amplify={"words": ["a"], "bias": {"shape": "linear", "start": 1.0}}),
        "policy.rules[0].do.amplify.bias", "start, end, over",
    ),
    "another shape": (do(suppress={"words": ["a"], "bias": {"shape": "sine"}}), "policy.rules[0].do.suppress.bias.shape", "linear"),
    "a rising suppression": (
        do(suppress={"words": ["a"], "bias": {"shape": "linear", "start": -1.0, "end": 1.0, "over": 5}}),
        "policy.rules[0].do.suppress", "never above 0",
    ),
    "a chance above 1": (
        when(probability={"shape": "linear", "start": 2.0, "end": 0.0, "over": 5}), "policy.rules[0].when", "from 0 to 2",
    ),
    "two truncations": (do(truncate={"top_k": 1, "min_p": 0.1}), "policy.rules[0].do.truncate", "exactly one of top_k"),
    "an empty text": (do(force={"text": ""}), "policy.rules[0].do.force.text", "at least 1 character"),
    "another end": (do(force={"text": "a", "instead_of": "stop"}), "policy.rules[0].do.force.instead_of", "'end_of_reasoning'"),
    "no such set": (do(stop={"instead_of": {}}), "policy.rules[0].do.stop.instead_of", "names no token"),
    "a window alone": (when(confidence_window=5), "policy.rules[0].when", "add confidence_below"),
    "a window too wide": (
        when(confidence_below=1.0, confidence_window=5000), "policy.rules[0].when.confidence_window", "less than or equal to 2048",
    ),
    "a blank word before": (when(previous={"words": [" "]}), "policy.rules[0].when.previous", "visible character"),
    "reasoning that is over": (
        {"rules": [{"when": {"region": "answer"}, "do": {"end_reasoning": {}}}]}, "policy.rules[0]", "already ended",
    ),
    "a control with conditions": (
        {"rules": [{"when": {"at_most": 1}, "do": {"control": {"like": {"do": {"stop": {}}}, "match": "positions"}}}]},
        "policy.rules[0]", "do.control.like.when",
    ),
    "inside a control": (
        do(control={"like": {"do": {"jump": {}}}, "match": "count"}), "policy.rules[0].do.control.like.do.jump", "one can write",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("data", "field", "right"), MORE_WRONG.values(), ids=MORE_WRONG.keys())
def test_wrong_input_of_the_richer_rules(data: Any, field: str, right: str) -> None:
    with pytest.raises(InputError, match=right) as caught:
        parse_policy(data)
    assert caught.value.field == field
