"""Policies that steer: what they compile to, and what the served model cannot do."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from forkpoint_policies.compile.compiler import compile_policy
from forkpoint_policies.compile.program import Action, ControlKind, Curve, Shape
from forkpoint_policies.hidden.artefact import Artefact, Model
from forkpoint_policies.placebo import placebo_of
from forkpoint_policies.spec import InputError, parse_policy
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
def test_a_policy_that_branches_cannot_steer(tree: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="cannot be had in a policy that branches") as error:
        compiled({"do": tree}, RULE)
    assert error.value.field == "policy.rules[1].do.steer"


@pytest.mark.parametrize(
    ("steer", "text"),
    [
        ({"vector": "calm", "scale": 0.0}, "a scale of 0 adds nothing"),
        ({"vector": "calm", "scale": 1e9}, "1000"),
        ({"vector": "calm", "tokens": 0}, "1"),
        ({"vector": "../calm"}, "lower-case letters"),
        ({"scale": 1.0}, "vector"),
    ],
)
def test_what_no_server_can_do(steer: dict[str, Any], text: str) -> None:
    with pytest.raises(InputError, match=text):
        parse_policy({"rules": [{"do": {"steer": steer}}]})
