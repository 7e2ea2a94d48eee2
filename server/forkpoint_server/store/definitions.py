"""The JSON columns of an experiment, typed: its definition, which never changes, and the arms of each epoch.

The models are more lenient than what a user may post, so that rows of earlier versions can still be read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict

from .built_in_metrics import Direction, Role


class Interval(NamedTuple):
    """The part [low, high) of the hash space [0, 1), and the number of the epoch in which its arm received it."""

    low: float
    high: float
    since: int


class _JsonColumn(BaseModel):
    model_config = ConfigDict(frozen=True)

    def to_dict(self) -> dict[str, Any]:
        """The value as it is stored."""
        return self.model_dump(mode="json")


class EpochArm(_JsonColumn):
    """An arm during one epoch: `status` is "running" or "paused"."""

    status: str
    intervals: tuple[Interval, ...]


def epoch_to_dict(arms: Mapping[str, EpochArm]) -> dict[str, Any]:
    """The arms of an epoch as they are stored."""
    return {name: arm.to_dict() for name, arm in arms.items()}


class StoredMetric(_JsonColumn):
    """A metric that the experiment's author declared."""

    name: str
    direction: Direction
    role: Role
    margin: float = 0.0


class StoredArm(_JsonColumn):
    """An arm. `policy` is what the author wrote; `definition` is the policy that it stood for, in full."""

    name: str
    policy: Any = None
    shadow: bool = False
    digest: str | None = None
    label: str | None = None  # the policy's name in the metrics
    definition: dict[str, Any] | None = None


class StoredDefinition(_JsonColumn):
    """What never changes about an experiment; `experiments.definition.Definition` explains the fields."""

    description: str = ""
    unit: str = "request"
    slice_seconds: float | None = None
    layer: str | None = None
    traffic: tuple[float, float] = (0.0, 1.0)
    priority: int = 0
    metrics: tuple[StoredMetric, ...] = ()
    alpha: float = 0.05
    salt: str
    control: str
    arms: tuple[StoredArm, ...]
