"""Policies built in Python are those that a request's JSON writes."""

from __future__ import annotations

import pydantic
import pytest

from forkpoint_clients import policy, rule, use
from forkpoint_clients.policy_builder import Action, to_json
from forkpoint_policies.library import LIBRARY
from forkpoint_policies.spec import (
    Amplify,
    Branch,
    Do,
    EndReasoning,
    EntropyTemperature,
    Force,
    NormalizedEntropyTemperature,
    Observe,
    Policy,
    Recycle,
    Steer,
    Stop,
    Suppress,
    Truncate,
    When,
    parse_policy,
)


@pytest.mark.parametrize(
    ("action", "written"),
    [
        (Suppress(words=("Wait",)), {"suppress": {"words": ["Wait"]}}),
        (Amplify(connectors=("conclusion",), bias=2.0), {"amplify": {"connectors": ["conclusion"], "bias": 2.0}}),
        (Truncate(min_p=0.1), {"truncate": {"min_p": 0.1}}),
        (Force(text="Wait"), {"force": {"text": "Wait"}}),
        (EndReasoning(), {"end_reasoning": {}}),
        (Stop(), {"stop": {}}),
        (Observe(), {"observe": {}}),
        (Steer(vector="calm", scale=-1.0), {"steer": {"vector": "calm", "scale": -1.0}}),
        (Recycle(layer=23), {"recycle": {"layer": 23}}),
        (Branch(max_branches=3), {"branch": {"max_branches": 3}}),
        (0.7, {"temperature": 0.7}),
        (EntropyTemperature(base=0.8, exponent=1.0), {"temperature": {"base": 0.8, "exponent": 1.0}}),
        (NormalizedEntropyTemperature(low=0.5, high=1.5), {"temperature": {"low": 0.5, "high": 1.5}}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_rule_of_each_action(action: Action, written: object) -> None:
    built = to_json(policy(rule(do=action)))
    assert isinstance(built, dict)
    assert built["rules"] == [{"do": written}]
    assert parse_policy(built) == policy(rule(do=action))


def test_a_do_is_taken_as_it_is() -> None:
    assert rule(do=Do(temperature=0.5)) == rule(do=0.5)


@pytest.mark.parametrize("name", LIBRARY)
def test_each_policy_of_the_library_survives(name: str) -> None:
    built = Policy.model_validate(to_json(LIBRARY[name].policy))
    assert built.digest == LIBRARY[name].policy.digest


def test_parts_that_contradict_are_errors() -> None:
    with pytest.raises(pydantic.ValidationError, match="already ended"):
        rule(when=When(region="answer"), do=EndReasoning())


def test_uses() -> None:
    assert use("nowait") == {"use": "nowait"}
    assert use("alpha-one", alpha=1.2) == {"use": "alpha-one", "with": {"alpha": 1.2}}
    assert use("nowait", shadow=True) == {"use": "nowait", "shadow": True}
