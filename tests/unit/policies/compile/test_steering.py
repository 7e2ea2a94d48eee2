"""Policies that steer: what they compile to, and what the served model cannot do."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from forkpoint_policies.compile.compiler import compile_policy
from forkpoint_policies.compile.program import Action, ControlKind, Curve, Shape, Signal
from forkpoint_policies.hidden.artefact import Artefact, Model
from forkpoint_policies.placebo import placebo_of
from forkpoint_policies.spec import InputError, parse_policy
from forkpoint_policies.spec.conditions import OF_TEXT
from tests.unit.policies.hidden.artefact_files import VECTOR, readout
from tests.unit.policies.vocabularies import TARGET

CALM: dict[str, Any] = {"vector": "calm", "scale": -1.5, "tokens": 3}
RULE: dict[str, Any] = {"when": {"entropy_above": 1.0}, "do": {"steer": CALM}}
SERVED = replace(TARGET, artefacts={"calm": VECTOR, "right": readout()}, hidden_layers=(2, 10))


def compiled(*rules: dict[str, Any], **options: Any) -> Any:
    return compile_policy(parse_policy({"rules": list(rules), **options}), SERVED)


def test_a_rule_that_steers() -> None:
    (rule,) = compiled(RULE).program.rules
    assert (rule.action, rule.vector, rule.num_tokens, rule.strength.a) == (Action.STEER, VECTOR.digest, 3, -1.5)


def test_a_scale_by_position() -> None:
    steer = {"vector": "calm", "scale": {"shape": "linear", "start": 0.0, "end": 2.0, "over": 100}}
    (rule,) = compiled({"do": {"steer": steer}}).program.rules
    assert rule.strength == Curve(Shape.LINEAR, 0.0, 2.0, 100.0)


def test_a_scale_by_entropy() -> None:
    steer = {"vector": "calm", "scale": {"low": 3.0, "high": -1.0, "exponent": 2.0}}
    rule_ = {"when": {"entropy_above": 0.5}, "do": {"steer": steer}}
    (rule,) = compiled(rule_).program.rules
    largest = math.log(TARGET.vocabulary.size)
    assert rule.strength == Curve(Shape.POWER, 3.0, -4.0 / largest**2, 2.0)
    policy = parse_policy({"rules": [rule_]})
    assert parse_policy(policy.model_dump(mode="json", exclude_unset=True)) == policy
    assert compile_policy(placebo_of(policy), SERVED).program.rules[0].strength == rule.strength
    with pytest.raises(InputError, match="cannot be matched by 'positions'; it can by direction"):
        placebo_of(policy, "positions")


def test_a_rule_from_here_is_the_first_one_and_acts_from_position_1_on() -> None:
    steer = {"vector": "calm", "from": "here"}
    rules = compiled(RULE, {"do": {"observe": {}}}, {"when": {"every": 5}, "do": {"steer": steer}}).program.rules
    assert [(rule.number, rule.from_here, rule.first_position) for rule in rules] == [
        (2, True, 1), (0, False, 0), (1, False, 0),
    ]  # fmt: skip
    later = {"when": {"after_token": 7}, "do": {"steer": steer}}
    assert compiled(later).program.rules[0].first_position == 7
    with pytest.raises(InputError, match="leaves only position 0") as error:
        compiled({"when": {"before_token": 1}, "do": {"steer": steer}})
    assert error.value.field == "policy.rules[0].when.before_token"


def test_from_next_is_what_a_rule_says_that_says_nothing() -> None:
    said = parse_policy({"rules": [{"do": {"steer": {"vector": "calm", "from": "next"}}}]})
    unsaid = parse_policy({"rules": [{"do": {"steer": {"vector": "calm"}}}]})
    here = parse_policy({"rules": [{"do": {"steer": {"vector": "calm", "from": "here"}}}]})
    assert said.digest == unsaid.digest != here.digest
    assert here.model_dump(mode="json", exclude_unset=True)["rules"][0]["do"]["steer"]["from"] == "here"
    assert parse_policy(here.model_dump(mode="json", exclude_unset=True)) == here


EXAMPLES: dict[str, Any] = {
    "connectors": ["reflection"], "words": ["wait"], "match": "cased", "since_connector_below": 5,
    "previous": {"words": ["wait"]}, "region": "reasoning", "after_token": 3, "before_token": 90, "every": 4,
    "probability": 0.5, "at_most": 7,
}  # fmt: skip


def test_conditions_of_the_text_can_be_had_from_here() -> None:
    assert EXAMPLES.keys() == set(OF_TEXT)
    (rule,) = compiled({"when": EXAMPLES, "do": {"steer": {"vector": "calm", "from": "here"}}}).program.rules
    assert rule.from_here
    assert not any(rule.bounds(signal) for signal in Signal)


@pytest.mark.parametrize(
    ("when", "field"),
    [
        ({"entropy_above": "fork"}, "entropy_above"),
        ({"previous": {"words": ["wait"]}, "top_probability_below": 0.5, "every": 3}, "top_probability_below"),
        ({"mean_entropy_below": 1.0, "mean_entropy_window": 8}, "mean_entropy_below"),
        ({"connectors": ["reflection"], "connector_probability_above": 0.5}, "connector_probability_above"),
        ({"readout_above": {"name": "right", "value": 0.5}}, "readout_above"),
        ({"effective_rank_above": 4, "rank_window": 8}, "effective_rank_above"),
        ({"end_of_reasoning_within": 1.0}, "end_of_reasoning_within"),
        ({"probe_confidence_above": 0.5}, "probe_confidence_above"),
    ],
)
def test_conditions_of_the_model_cannot(when: dict[str, Any], field: str) -> None:
    steer = {"steer": {"vector": "calm", "from": "here"}}
    with pytest.raises(InputError) as error:
        parse_policy({"rules": [{"do": {"observe": {}}}, {"when": when, "do": steer}]})
    assert error.value.field == "policy.rules[1]"
    assert error.value.message.startswith(f"when.{field} is known only after the forward pass")
    with pytest.raises(InputError, match=f"when.{field} is known only after"):
        parse_policy({"rules": [{"do": {"control": {"like": {"when": when, "do": steer}, "match": "direction"}}}]})


def test_another_vector_of_the_name_is_another_policy() -> None:
    other = Artefact("vector", Model("Other", 6), {"layer.2": np.ones(6, np.float32)}, "by hand")
    one, policy = compiled(RULE), parse_policy({"rules": [RULE]})
    two = compile_policy(policy, replace(SERVED, artefacts={"calm": other}))
    assert one.digest != two.digest
    assert one.key != two.key
    assert compiled({"do": {"observe": {}}}).digest == parse_policy({"rules": [{"do": {"observe": {}}}]}).digest


def test_its_placebos() -> None:
    policy = parse_policy({"name": "calmer", "rules": [RULE]})
    direction = compile_policy(placebo_of(policy), SERVED).program.rules[0]
    assert (direction.control, direction.vector) == (ControlKind.DIRECTION, VECTOR.digest)
    positions = compile_policy(placebo_of(policy, "positions"), SERVED).program.rules[0]
    assert (positions.control, positions.vector) == (ControlKind.POSITIONS, VECTOR.digest)
    with pytest.raises(InputError, match="cannot be matched by 'count'; it can by direction, positions"):
        placebo_of(policy, "count")


@pytest.mark.parametrize(
    ("steer", "served", "field", "text"),
    [
        (CALM, {"hidden_layers": ()}, "", "needs a server that was started with --hidden-layers"),
        ({"vector": "clam"}, {}, ".vector", "there is no vector 'clam'; there are calm (GET /v1/vectors)"),
        ({"vector": "right"}, {}, ".vector", "there is no vector 'right'; there are calm"),
        ({"vector": "calm"}, {"artefacts": {}}, ".vector", "this server has no vectors"),
        (
            CALM, {"hidden_layers": (1, 2)}, ".vector",
            "'calm' is for layer 10, which is not hooked: this server was started with --hidden-layers 1,2",
        ),
    ],
)  # fmt: skip
def test_what_the_server_cannot_do(steer: dict[str, Any], served: dict[str, Any], field: str, text: str) -> None:
    with pytest.raises(InputError) as error:
        compile_policy(parse_policy({"rules": [{"do": {"steer": steer}}]}), replace(SERVED, **served))
    assert error.value.field == f"policy.rules[0].do.steer{field}"
    assert text in str(error.value)


@pytest.mark.parametrize("tree", [{"branch": {"max_branches": 2}}, {"sample": {"answers": 2}}])
def test_a_policy_that_branches_can_steer(tree: dict[str, Any]) -> None:
    program = compiled({"do": tree}, RULE).program
    assert [rule.action for rule in program.rules] == [Action.TREE, Action.STEER]


@pytest.mark.parametrize(
    ("steer", "text"),
    [
        ({"vector": "calm", "scale": 0.0}, "a scale of 0 adds nothing"),
        ({"vector": "calm", "scale": 1e9}, "1000"),
        ({"vector": "calm", "tokens": 0}, "1"),
        ({"vector": "../calm"}, "lower-case letters"),
        ({"vector": "calm", "scale": {"low": 1.0}}, r"steer\.scale\.high: is missing"),
        (
            {"vector": "calm", "scale": {"low": 1.0, "high": 1.0}},
            "low and high are the same; write the number, 1",
        ),
        ({"vector": "calm", "scale": {"low": 0.0, "high": 1e4}}, "1000"),
        (
            {"vector": "calm", "scale": {"low": 0.0, "high": 1.0, "slope": 3}},
            "here one can write .*low, high, exponent",
        ),
        (
            {"vector": "calm", "scale": {"low": 0.0, "high": 1.0}, "from": "here"},
            "steer: a scale by entropy is known only after the forward pass",
        ),
        ({"vector": "calm", "from": "before"}, r"steer\.from: Input should be 'next' or 'here'"),
        ({"vector": "calm", "from_": "here"}, "from_: is not a field of a policy; here one can write .*, from"),
        ({"scale": 1.0}, "vector"),
    ],
)
def test_what_no_server_can_do(steer: dict[str, Any], text: str) -> None:
    with pytest.raises(InputError, match=text):
        parse_policy({"rules": [{"do": {"steer": steer}}]})
