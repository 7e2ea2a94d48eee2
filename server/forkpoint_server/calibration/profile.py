"""A model's entropy profile, measured by `forkpoint calibrate`: above which entropy this model's forks lie."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, model_validator

from forkpoint_policies.spec import InputError
from forkpoint_policies.spec.errors import explain

FILE = "calibration.json"
"""In a model's folder."""

Nats = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]


class EntropyProfile(BaseModel):
    """`fork_threshold` is the 80th percentile of the entropies, in nats, of `tokens` tokens that the model generated.

    `interval` is its 95 % confidence interval. `share_below_0_01` is the share of tokens below 0.01 nats,
    `mean_reasoning_tokens` the mean length of the reasoning, and `prompts_digest` identifies the prompts.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: Annotated[str, Field(max_length=512)]
    fork_threshold: Nats
    interval: tuple[Nats, Nats]
    share_below_0_01: Share
    tokens: Annotated[int, Field(ge=1, lt=2**63, strict=True)]
    created: AwareDatetime = Field(default_factory=lambda: datetime.now(UTC).replace(microsecond=0))
    prompts_digest: Annotated[str, Field(min_length=1, max_length=128)]
    prompts: Annotated[int, Field(ge=1, lt=2**63, strict=True)] | None = None
    answers: Annotated[int, Field(ge=1, lt=2**63, strict=True)] | None = None
    mean_reasoning_tokens: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None

    @model_validator(mode="after")
    def _check(self) -> EntropyProfile:
        low, high = self.interval
        if not low <= self.fork_threshold <= high:
            raise ValueError(f"interval: [{low:g}, {high:g}] must hold the fork_threshold {self.fork_threshold:g}")
        return self


def read_own_profile(folder: Path) -> EntropyProfile | None:
    """The profile that a model's folder ships with, as `forkpoint calibrate --dry-run --format json` prints it.

    Raises InputError for an invalid one.
    """
    file = folder / FILE
    return parse_profile(json.loads(file.read_bytes())) if file.is_file() else None


def parse_profile(body: Any) -> EntropyProfile:
    """Parse a profile. Raises InputError naming the field at fault."""
    if not isinstance(body, dict):
        raise InputError(
            "body", "must be an object with model, fork_threshold, interval, share_below_0_01, tokens, prompts_digest"
        )
    try:
        return EntropyProfile.model_validate(body)
    except ValidationError as error:
        explained = explain(error, EntropyProfile, noun="a calibration")
        field, bracket, index = explained.field.partition("[")  # an interval is one field
        raise InputError(field, f"{bracket}{index} {explained.message}".lstrip()) from None
