"""What Forkpoint's own routes answer, typed; fields of later servers are kept as they come."""

from __future__ import annotations

from typing import Any, Literal

import openai
from pydantic import Field

from .notebook import Shade, page


class Policy(openai.BaseModel):
    """A policy that can be asked for by name."""

    name: str
    digest: str
    rules: list[dict[str, Any]] = Field(default_factory=list)
    description: str = ""
    source: str = ""
    caution: str = ""
    """Where its evidence is weak."""
    builtin: bool = False
    parameters: dict[str, Any] = Field(default_factory=dict)
    """What `with` may hold, by name."""
    placebo: str | None = None
    match: list[str] = Field(default_factory=list)
    """What its placebo can be matched by, the default first."""


class Validation(openai.BaseModel):
    """What a policy would do for the served model: rules in the order of application, with token ids."""

    valid: bool
    name: str
    digest: str
    shadow: bool = False
    rules: list[dict[str, Any]] = Field(default_factory=list)
    warnings: list[str] = Field(default_factory=list)


class Deleted(openai.BaseModel):
    """That something is gone."""

    name: str
    deleted: bool


class ExperimentArm(openai.BaseModel):
    """An arm: `weight` is its share of all units, `policy` a name, an object or None."""

    name: str
    weight: float
    policy: Any = None
    digest: str | None = None
    shadow: bool = False
    status: Literal["running", "paused"] = "running"


class ArmCounts(openai.BaseModel):
    """How many requests and units an arm has so far, and of each metric the number of requests with a value and their mean."""

    arm: str
    requests: int
    units: int
    metrics: dict[str, dict[str, Any]] = Field(default_factory=dict)


class Experiment(openai.BaseModel):
    """An experiment on live traffic. `figures` and `analysis` come with one experiment, not in a list."""

    name: str
    status: Literal["running", "paused", "stopped"]
    unit: str
    arms: list[ExperimentArm]
    control: str
    description: str = ""
    slice_seconds: float | None = None
    layer: str | None = None
    traffic: list[float] | None = None
    priority: int = 0
    metrics: list[dict[str, Any]] = Field(default_factory=list)
    alpha: float = 0.05
    problem: str | None = None
    """Why it does not run on this server."""
    figures: list[ArmCounts] | None = None
    analysis: dict[str, Any] | None = None


class Recorded(openai.BaseModel):
    """How many outcomes are committed; those that were there already count as duplicates."""

    stored: int
    duplicates: int


class Alternative(openai.BaseModel):
    """A token that could have been drawn."""

    token: str
    probability: float


class Outcome(openai.BaseModel):
    """What continuations from one alternative answered, and how often."""

    token: str
    answers: dict[str, int] = Field(default_factory=dict)
    token_id: int | None = None
    truncated: int = 0
    """So many reached their longest."""
    unanswered: int = 0
    """In so many no answer could be read."""


class Verified(openai.BaseModel):
    """Whether the answers depend on which alternative is taken; `q` is `p` corrected for the false-discovery rate of the trace."""

    p: float
    q: float
    verified: bool
    outcomes: list[Outcome] = Field(default_factory=list)


class ForkPoint(openai.BaseModel):
    """A token whose distribution had an entropy (nats) above the fork threshold; `index` in the generated text."""

    choice: int
    index: int
    token: str
    entropy: float
    connector: str | None = None
    alternatives: list[Alternative] = Field(default_factory=list)
    action: str | None = None
    verified: Verified | None = None


class TraceChoice(openai.BaseModel):
    """One text. `positions` [records]: to which generated token `entropies` (nats), `in_reasoning` and `actions` belong."""

    index: int
    tokens: list[str]
    positions: list[int]
    entropies: list[float]
    token_ids: list[int] = Field(default_factory=list)
    in_reasoning: list[bool] = Field(default_factory=list)
    actions: list[list[str]] = Field(default_factory=list)


class Trace(openai.BaseModel):
    """Where a text forked. A notebook shows it as text coloured by entropy, with the alternatives of each fork as its title."""

    choices: list[TraceChoice]
    fork_points: list[ForkPoint] = Field(default_factory=list)
    id: str | None = None
    tree: Any = None
    forkpoint: dict[str, Any] | None = None
    prompt_tokens: int | None = None
    """Of a given text; what was generated has it in its response's `usage`."""
    cost: dict[str, Any] | None = None
    """Of a given text: requests and generated tokens, a verification's among them."""
    verification: dict[str, Any] | None = None
    """How it was verified, `cost` by itself, and one object a position where `positions` were asked for."""

    def _repr_html_(self) -> str:
        return page([self._shades(choice) for choice in self.choices])

    def _shades(self, choice: TraceChoice) -> list[Shade]:
        begun = begins_at(choice)
        entropies = dict(zip(choice.positions, choice.entropies, strict=True))
        forks = {point.index: point for point in self.fork_points if point.choice == choice.index}
        return [
            Shade(token, entropies.get(begun + place), _title(forks.get(begun + place)), begun + place in forks)
            for place, token in enumerate(choice.tokens)
        ]


class Progress(openai.BaseModel):
    """How far a verification is: `done` of `total` in this phase."""

    phase: str
    done: int
    total: int


def begins_at(choice: TraceChoice) -> int:
    """Where a choice's own tokens begin in its text: a branch has those before it from its trunk. The last token has a record."""
    return max(choice.positions, default=-1) + 1 - len(choice.tokens) if choice.positions else 0


def _title(point: ForkPoint | None) -> str:
    if point is None:
        return ""
    others = [f"{one.token!r} {one.probability:.2f}" for one in point.alternatives]
    checked = [] if point.verified is None else ["verified" if point.verified.verified else "not verified"]
    return "; ".join([f"{point.entropy:.2f} nats", *filter(None, [point.connector, point.action]), *checked, *others])
