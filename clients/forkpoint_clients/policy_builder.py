"""Builds a policy from the models of the policy language: an editor completes it, and a type checker checks it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from forkpoint_policies.spec import (
    ACTIONS,
    Amplify,
    Branch,
    Control,
    DeclaredFields,
    Do,
    EndReasoning,
    EntropyTemperature,
    Force,
    NormalizedEntropyTemperature,
    Observe,
    Policy,
    Probe,
    Recycle,
    Resume,
    Rule,
    Sample,
    Steer,
    Stop,
    Suppress,
    Truncate,
    When,
)

TemperatureCurve = EntropyTemperature | NormalizedEntropyTemperature
Action = (
    Suppress | Amplify | Truncate | Force | EndReasoning | Stop | Branch | Probe | Sample | Resume | Control | Observe
    | Steer | Recycle | DeclaredFields | TemperatureCurve | float
)  # fmt: skip
"""What a rule does: one of the language's actions; a number or a curve of the entropy is a temperature."""

PolicyLike = str | Mapping[str, Any] | Policy
"""What a request takes as its policy: a name, an object as in the request's JSON, or a built policy."""

_NAMES: Mapping[type[BaseModel], str] = {
    Suppress: "suppress", Amplify: "amplify", Truncate: "truncate", Force: "force", EndReasoning: "end_reasoning",
    Stop: "stop", Branch: "branch", Probe: "probe", Sample: "sample", Resume: "resume", Control: "control",
    Observe: "observe", Steer: "steer", Recycle: "recycle",
    **{one.fields: name for name, one in ACTIONS.items()},
}  # fmt: skip


def rule(*, do: Action | Do, when: When | None = None) -> Rule:
    """A rule. Without `when` it fires at every token. Raises pydantic.ValidationError for parts that contradict."""
    return Rule(do=do if isinstance(do, Do) else _do(do), **({} if when is None else {"when": when}))


def policy(*rules: Rule, name: str = "inline", description: str = "", shadow: bool = False) -> Policy:
    """A policy of rules, applied in the language's order. Raises pydantic.ValidationError for rules that contradict."""
    return Policy(name=name, description=description, shadow=shadow, rules=rules)


def use(name: str, *, shadow: bool = False, **parameters: Any) -> dict[str, Any]:
    """A named policy with other parameters than its defaults, or in shadow: evaluated without changing anything."""
    return {"use": name, **({"with": parameters} if parameters else {}), **({"shadow": True} if shadow else {})}


def to_json(policy: PolicyLike) -> str | dict[str, Any]:
    """A policy as a request's JSON has it."""
    if isinstance(policy, Policy):
        return policy.model_dump(mode="json", exclude_unset=True)
    return policy if isinstance(policy, str) else dict(policy)


def _do(action: Action) -> Do:
    name = _NAMES.get(type(action), "temperature") if isinstance(action, BaseModel) else "temperature"
    return Do.model_validate({name: action})
