"""What users write about an experiment, and what they may change later. Invalid input raises InputError."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, Field, StringConstraints, ValidationError, model_validator

from forkpoint_policies.spec import InputError, Name, Number, Probability, Strict, unknown_name
from forkpoint_policies.spec.errors import explain
from forkpoint_policies.spec.size_limits import SizeLimitError, check_size
from forkpoint_server.policies.compiled import LabeledPolicy
from forkpoint_server.policies.resolve import label_policy

from .units import unit_problem

MESSAGES = {
    "string_pattern_mismatch": (
        "must be letters, digits, '.', '_' or '-', at most 64 of them; experiments and arms in lower case"
    ),
    "too_short": "are too few: an experiment compares at least two",
}
"""For `explain`: by pydantic's type of error, where its own message would be less clear."""

MAX_ARMS = 16
MAX_METRICS = 32

Status = Literal["running", "paused", "stopped"]
ArmStatus = Literal["running", "paused"]
METRIC_NAME = re.compile(r"^[A-Za-z][A-Za-z0-9_.-]{0,63}$")
MetricName = Annotated[str, StringConstraints(pattern=METRIC_NAME)]


def is_metric_name(name: str) -> bool:
    """Whether outcomes can have this name."""
    return METRIC_NAME.fullmatch(name) is not None


class ArmDefinition(Strict):
    """One arm: a policy as a request's `policy` field would hold it, or None, and the arm's share of all units."""

    name: Name
    policy: Any = None
    weight: Probability
    shadow: Annotated[bool, Field(strict=True)] = False
    status: ArmStatus = "running"


class MetricDefinition(Strict):
    """The purpose of a metric. A guardrail is breached by harm of more than `margin`."""

    name: MetricName
    direction: Literal["higher", "lower", "neither"]
    role: Literal["decision", "guardrail", "information"]
    margin: Annotated[Number, Field(ge=0)] = 0.0

    @model_validator(mode="after")
    def _check(self) -> MetricDefinition:
        if self.role == "guardrail" and self.direction == "neither":
            raise ValueError("is a guardrail, so its direction must say which values are better: higher or lower")
        return self


class Definition(Strict):
    """An experiment as it is posted; docs/experiments.md explains each field."""

    name: Name
    description: Annotated[str, StringConstraints(max_length=4000)] = ""
    unit: Annotated[str, StringConstraints(min_length=1, max_length=64)] = "request"
    slice_seconds: Annotated[Number, Field(ge=1, le=7 * 86_400)] | None = None
    arms: tuple[ArmDefinition, ...] = Field(min_length=2, max_length=MAX_ARMS, fail_fast=True)
    control: Name | None = None
    layer: Name | None = None
    traffic: tuple[Probability, Probability] = (0.0, 1.0)
    priority: Annotated[int, Field(ge=-1_000_000, le=1_000_000, strict=True)] = 0
    metrics: tuple[MetricDefinition, ...] = Field(default=(), max_length=MAX_METRICS, fail_fast=True)
    alpha: Annotated[Number, Field(gt=0, le=0.5)] = 0.05
    status: Status = "running"
    salt: Annotated[str, StringConstraints(min_length=1, max_length=128)] = Field(
        default_factory=lambda: secrets.token_hex(8)
    )

    @model_validator(mode="after")
    def _check(self) -> Definition:
        if (problem := unit_problem(self.unit)) is not None:
            raise ValueError(f"unit: {problem}")
        if (self.unit == "slice") != (self.slice_seconds is not None):
            raise ValueError(
                "slice_seconds: is required with the unit `slice`, and allowed only with it: the length of a time slice"
            )
        if self.traffic[0] >= self.traffic[1]:
            raise ValueError(
                "traffic: is a range [from, to] of all units, as in [0, 0.5]; the first must be the smaller one"
            )
        if self.traffic != (0.0, 1.0) and self.layer is None:
            raise ValueError(
                "layer: is missing; `traffic` is a range of a layer's units, so that experiments of one layer can "
                "share them out"
            )
        for field, names in (
            ("arms", [arm.name for arm in self.arms]),
            ("metrics", [metric.name for metric in self.metrics]),
        ):
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise ValueError(f"{field}: {', '.join(map(repr, twice))} comes twice; give each its own name")
        if self.control is not None and self.control not in {arm.name for arm in self.arms}:
            known = [arm.name for arm in self.arms]
            raise ValueError(f"control: {unknown_name('arm', self.control, known)}")
        if not any(arm.weight for arm in self.arms):
            raise ValueError("arms: all have the weight 0; a weight is the arm's share of all units, as 0.05")
        return self


class ArmChange(Strict):
    """The changeable parts of an arm."""

    name: Name
    weight: Probability | None = None
    status: ArmStatus | None = None


class Change(Strict):
    """The changeable parts of an existing experiment."""

    status: Status | None = None
    arms: tuple[ArmChange, ...] = Field(default=(), max_length=MAX_ARMS, fail_fast=True)

    @model_validator(mode="after")
    def _check(self) -> Change:
        if self.status is None and not self.arms:
            raise ValueError(
                "changes nothing; give `status`, or `arms` with a name and a new `weight` or `status` each"
            )
        return self


@dataclass(frozen=True)
class ResolvedArm:
    """An arm with its policy as of now. The arm keeps this policy even if the name is redefined later."""

    definition: ArmDefinition
    labeled: LabeledPolicy | None


def resolve_arms(definition: Definition, resolve: Callable[[Any], LabeledPolicy | None]) -> tuple[ResolvedArm, ...]:
    """Look up the arms' policies. `resolve` reads a request's `policy` field. Raises InputError."""
    return tuple(_resolve_arm(arm, number, resolve) for number, arm in enumerate(definition.arms))


def _resolve_arm(arm: ArmDefinition, number: int, resolve: Callable[[Any], LabeledPolicy | None]) -> ResolvedArm:
    try:
        labeled = None if arm.policy is None else resolve(arm.policy)
    except InputError as error:
        raise InputError(f"arms[{number}].{error.field}", error.message) from None
    if labeled is None and arm.shadow:
        raise InputError(f"arms[{number}].shadow", "needs a policy whose rules are evaluated; this arm has none")
    if labeled is not None and arm.shadow and not labeled.policy.shadow:
        labeled = label_policy(labeled.label, labeled.policy.in_shadow())
    return ResolvedArm(arm, labeled)


_Model = TypeVar("_Model", bound=BaseModel)


def parse_body(model: type[_Model], body: Any) -> _Model:
    """Read a body, JSON already, as a `Definition` or a `Change`. Raises InputError."""
    if not isinstance(body, dict):
        raise InputError("body", f"must be a JSON object, not {type(body).__name__}")
    try:
        check_size(body)
        return model.model_validate(body)
    except SizeLimitError as error:
        raise InputError(error.path.removeprefix(".") or "body", str(error)) from None
    except ValidationError as error:
        raise explain(error, model, messages=MESSAGES) from None
