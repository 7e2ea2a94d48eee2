"""The typed responses of Forkpoint's own routes. Fields of later servers are preserved untyped."""

from __future__ import annotations

from typing import Any, Literal

import openai
from pydantic import Field

from .notebook import Shade, page


class Policy(openai.BaseModel):
    """A policy that requests can use by name."""

    name: str
    digest: str
    rules: list[dict[str, Any]] = Field(default_factory=list)
    description: str = ""
    source: str = ""
    caution: str = ""
    """The limits of its evidence."""
    builtin: bool = False
    parameters: dict[str, Any] = Field(default_factory=dict)
    """The parameters that `with` accepts, by name."""
    placebo: str | None = None
    match: list[str] = Field(default_factory=list)
    """How its placebo can be matched, the default first."""


class Validation(openai.BaseModel):
    """What a policy does to the served model: its rules in order of application, with token ids."""

    valid: bool
    name: str
    digest: str
    shadow: bool = False
    rules: list[dict[str, Any]] = Field(default_factory=list)
    warnings: list[str] = Field(default_factory=list)


class Deleted(openai.BaseModel):
    """Confirms a deletion."""

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
    """An arm's requests and units so far; per metric, the number of requests with a value and their mean."""

    arm: str
    requests: int
    units: int
    metrics: dict[str, dict[str, Any]] = Field(default_factory=dict)


class Experiment(openai.BaseModel):
    """An experiment on live traffic. `figures` and `analysis` are set only when a single experiment is requested."""

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
    """Why it cannot run on this server."""
    figures: list[ArmCounts] | None = None
    analysis: dict[str, Any] | None = None


class Recorded(openai.BaseModel):
    """The number of outcomes committed; outcomes recorded before count as duplicates."""

    stored: int
    duplicates: int


class Alternative(openai.BaseModel):
    """A token that could have been sampled instead."""

    token: str
    probability: float
    token_id: int | None = None
    bytes: list[int] | None = None
    """Exact where the token alone is no valid UTF-8."""
    possible: bool = True
    """False if the policy removed it."""


class Outcome(openai.BaseModel):
    """The answers of the continuations of one alternative, with their counts."""

    token: str
    answers: dict[str, int] = Field(default_factory=dict)
    token_id: int | None = None
    bytes: list[int] | None = None
    truncated: int = 0
    """Continuations that reached their length limit."""
    unanswered: int = 0
    """Continuations from which no answer could be extracted."""


class Verified(openai.BaseModel):
    """Whether the answers depend on the alternative; `q` is `p` corrected for the false-discovery rate of the trace."""

    p: float
    q: float
    verified: bool
    outcomes: list[Outcome] = Field(default_factory=list)


class ForkPoint(openai.BaseModel):
    """A token whose distribution had an entropy (nats) above the fork threshold; `index` counts generated tokens."""

    choice: int
    index: int
    token: str
    entropy: float
    token_id: int | None = None
    bytes: list[int] | None = None
    connector: str | None = None
    alternatives: list[Alternative] = Field(default_factory=list)
    action: str | None = None
    verified: Verified | None = None


class TraceChoice(openai.BaseModel):
    """One text.

    `positions` [records] are the indices of the generated tokens of `entropies` (nats), `in_reasoning`, `actions`.
    """

    index: int
    tokens: list[str]
    positions: list[int]
    entropies: list[float]
    token_ids: list[int] = Field(default_factory=list)
    in_reasoning: list[bool] = Field(default_factory=list)
    actions: list[list[str]] = Field(default_factory=list)
    policy_logprobs: list[float | None] | None = None
    """Of each token, in nats, in the distribution that it was sampled from; for requests with `policy_logprobs`."""
    logprobs: list[float | None] | None = None
    """Of each token, in nats, in the model's own distribution at temperature 1, if the request wanted log
    probabilities."""
    written: list[int] = Field(default_factory=list)
    """Indices in `token_ids` of the tokens that the policy wrote, so that none was sampled."""


class Trace(openai.BaseModel):
    """The forks of a text. A notebook renders it coloured by entropy, with each fork's alternatives as its tooltip."""

    choices: list[TraceChoice]
    fork_points: list[ForkPoint] = Field(default_factory=list)
    id: str | None = None
    tree: Any = None
    forkpoint: dict[str, Any] | None = None
    prompt_tokens: int | None = None
    """Set for a supplied text; a generated one has it in its response's `usage`."""
    cost: dict[str, Any] | None = None
    """Set for a supplied text: requests and generated tokens, including those of a verification."""
    verification: dict[str, Any] | None = None
    """How it was verified, its own `cost`, and one object for each of the requested `positions`."""

    def _repr_html_(self) -> str:
        return page([self._shades(choice) for choice in self.choices])

    def _shades(self, choice: TraceChoice) -> list[Shade]:
        first = first_token_index(choice)
        entropies = dict(zip(choice.positions, choice.entropies, strict=True))
        forks = {point.index: point for point in self.fork_points if point.choice == choice.index}
        return [
            Shade(token, entropies.get(index), _title(forks.get(index)), index in forks)
            for index, token in enumerate(choice.tokens, first)
        ]


class Progress(openai.BaseModel):
    """The progress of a verification: `done` of `total` in this phase."""

    phase: str
    done: int
    total: int


def first_token_index(choice: TraceChoice) -> int:
    """The index in the text of the choice's first own token: a branch shares the earlier ones with its trunk.

    The last token always has a record.
    """
    return max(choice.positions, default=-1) + 1 - len(choice.tokens) if choice.positions else 0


def _title(point: ForkPoint | None) -> str:
    if point is None:
        return ""
    others = [f"{other.token!r} {other.probability:.2f}" for other in point.alternatives]
    checked = [] if point.verified is None else ["verified" if point.verified.verified else "not verified"]
    return "; ".join([f"{point.entropy:.2f} nats", *filter(None, [point.connector, point.action]), *checked, *others])
