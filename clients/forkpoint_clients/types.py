"""The typed responses of Forkpoint's own routes. Fields of later servers are preserved untyped."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import openai
from pydantic import Field, PrivateAttr

from .notebook import Shade, Text, page
from .trace_data import Alternative, ForkPoint, Outcome, TraceChoice, TraceData, Tree, TreeNode, Verified
from .trace_text import (
    TraceToken,
    answer_start,
    answered_index,
    first_position,
    own_tokens,
    text_of,
    whole_characters,
    whole_tokens,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

__all__ = [
    "Alternative",
    "ArmCounts",
    "Deleted",
    "Experiment",
    "ExperimentArm",
    "ForkPoint",
    "Outcome",
    "Policy",
    "Progress",
    "Recorded",
    "Trace",
    "TraceChoice",
    "Tree",
    "TreeNode",
    "Validation",
    "Verified",
]


class Policy(openai.BaseModel):
    """A policy that requests can use by name."""

    name: str
    digest: str
    rules: list[dict[str, Any]] = Field(default_factory=list)
    description: str = ""
    source: str = ""
    caution: str = ""
    """The limits of its evidence."""
    compared: str = ""
    """With what of its authors it was compared, and what differs; empty where nobody published it."""
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


class PlaceboComparison(openai.BaseModel):
    """An arm beside its placebo. A dose is the expected number of changed tokens per token; None if it is not known.

    `ratio` is the placebo's dose over the policy's. Below 0.8 the `conclusion` is that there is none. `metrics`: the
    difference in each metric, arm minus placebo, with its always-valid interval.
    """

    arm: str
    placebo: str
    dose: float | None = None
    placebo_dose: float | None = None
    ratio: float | None = None
    requests_without_effect: int = 0
    """Of both arms, requests recorded by earlier versions, which did not record what the policy changed."""
    conclusion: str | None = None
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

    @property
    def placebos(self) -> list[PlaceboComparison]:
        """Each arm beside its placebo; none if the experiment was not requested alone, or by earlier servers."""
        return [PlaceboComparison.model_validate(one) for one in (self.analysis or {}).get("placebos", ())]


class Recorded(openai.BaseModel):
    """The number of outcomes committed; outcomes recorded before count as duplicates."""

    stored: int
    duplicates: int


class Trace(TraceData):
    """The forks of a text. A notebook renders it coloured by entropy, with each fork's alternatives as its tooltip."""

    _server: str | None = PrivateAttr(default=None)

    @property
    def text(self) -> str:
        """The generated text that the response returned: with the markers around the reasoning, without the stop token.

        Of a tree it is the chosen answer, from its first token.
        """
        return self.text_of(answered_index(self))

    @property
    def reasoning(self) -> str:
        """The part of `text` that is reasoning, its end marker included; empty if the text has none."""
        tokens = whole_tokens(self, answered_index(self))
        return text_of(tokens[: answer_start(tokens)])

    @property
    def answer(self) -> str:
        """The part of `text` after the reasoning; empty if the reasoning was cut off."""
        tokens = whole_tokens(self, answered_index(self))
        return text_of(tokens[answer_start(tokens) :], self.stop_token_ids)

    def text_of(self, choice: int) -> str:
        """The text of a choice, shared tokens included. Raises LookupError if the trace has no such choice."""
        return text_of(whole_tokens(self, choice), self.stop_token_ids)

    @property
    def viewer_url(self) -> str | None:
        """The address at which the server's viewer shows this trace; None for one that no client fetched."""
        return None if self._server is None or self.id is None else f"{self._server}/forkpoint#trace={self.id}"

    def to_dataframe(self) -> pd.DataFrame:
        """One row per generated token: its entropy (nats), fork, connector, actions, effect and log probabilities."""
        from .trace_figures import frame_of

        return frame_of(self)

    def plot(self) -> Figure:
        """The entropy of each token as a matplotlib figure: a panel per choice, with the threshold and the effects."""
        from .trace_figures import plot_of

        return plot_of(self)

    def _repr_html_(self) -> str:
        return page([self._text(choice) for choice in self.choices], self._facts(), self._lanes(), self.viewer_url)

    def __repr__(self) -> str:
        named = f"id={self.id!r}, " if self.id else ""
        return f"Trace({named}{self._facts()})"

    __str__ = __repr__

    def _facts(self) -> str:
        tokens = sum(len(choice.tokens) for choice in self.choices)
        several = f"{len(self.choices)} choices, " if len(self.choices) > 1 else ""
        policy = f", policy {self.policy}" if self.policy and self.policy != "none" else ""
        acted = f", {len(self.intervention_points)} tokens with an effect" if self.intervention_points else ""
        return f"{several}{tokens} tokens, {len(self.fork_points)} forks{policy}{acted}"

    def _lanes(self) -> list[list[str]]:
        """A table of a tree's answers; empty without one."""
        if self.tree is None:
            return []
        rows = [
            [
                str(node.index), node.answer or "", f"{node.tokens_generated} + {node.tokens_shared} shared",
                node.ended or "", "chosen" if node.chosen else "",
            ]
            for node in self.tree.nodes
            if node.kind == "answer"
        ]  # fmt: skip
        return [["choice", "answer", "tokens", "ended", ""], *rows]

    def _text(self, choice: TraceChoice) -> Text:
        forks = {point.index: point for point in self.fork_points if point.choice == choice.index}
        acted = {point.index for point in self.intervention_points if point.choice == choice.index}
        first, written = first_position(choice), set(choice.written)
        tokens = own_tokens(choice)
        start = answer_start(tokens)
        shades: list[Shade] = []
        answer = None
        for text, parts in whole_characters(tokens):
            if 0 < start <= parts[0].position - first and answer is None:
                answer = len(shades)
            places = {part.position for part in parts}
            shades.append(
                Shade(
                    token=text,
                    nats=_max_entropy(parts),
                    title=_title(next((forks[place] for place in sorted(places) if place in forks), None)),
                    fork=not places.isdisjoint(forks),
                    acted=not places.isdisjoint(acted),
                    forced=any(place - first in written for place in places),
                )
            )
        title = f"choice {choice.index}" + (f", from token {first}" if first else "") if len(self.choices) > 1 else ""
        return Text(title, shades, answer)


class Progress(openai.BaseModel):
    """The progress of a verification: `done` of `total` in this phase."""

    phase: str
    done: int
    total: int


def _max_entropy(tokens: Sequence[TraceToken]) -> float | None:
    return max((token.entropy for token in tokens if token.entropy is not None), default=None)


def _title(point: ForkPoint | None) -> str:
    if point is None:
        return ""
    others = [f"{other.token!r} {other.probability:.2f}" for other in point.alternatives]
    checked = [] if point.verified is None else ["verified" if point.verified.verified else "not verified"]
    return "; ".join([f"{point.entropy:.2f} nats", *filter(None, [point.connector, point.action]), *checked, *others])
