"""What a trace holds: its texts, fork points and tree, without what is computed from them."""

from __future__ import annotations

from typing import Any, Literal

import openai
from pydantic import Field


class Subscriptable(openai.BaseModel):
    """Fields by name too, as in `summary["forks"]`: the `forkpoint` object was a dictionary once."""

    def __getitem__(self, name: str) -> Any:
        """Raises KeyError for a field that is not there."""
        try:
            return getattr(self, name)
        except AttributeError:
            raise KeyError(name) from None


class Alternative(Subscriptable):
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


class ForkPoint(Subscriptable):
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
    effect: float = 0.0
    """The expected number of tokens that the policy changed here, 0 to 1."""
    verified: Verified | None = None


class TraceChoice(openai.BaseModel):
    """One text.

    `positions` [records] are the indices of the generated tokens of `entropies` (nats), `in_reasoning`, `actions`. A
    branch has only its own tokens; `Trace.text_of` has the whole text.
    """

    index: int
    begun: int | None = None
    """The position in the whole answer of its first own token."""
    token_bytes: dict[str, str] = Field(default_factory=dict)
    """The bytes, in hexadecimal, of tokens that are not whole characters, by their index."""
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


class TreeNode(openai.BaseModel):
    """An answer from where it leaves its parent's, whose tokens from `position` on the forced `tokens` replace.

    A probe (`kind`) is not an answer: it measures what its parent would answer.
    """

    index: int
    parent: int | None = None
    kind: Literal["answer", "probe"] = "answer"
    position: int | None = None
    token: str | None = None
    """Its forced tokens as one text."""
    token_ids: list[int] = Field(default_factory=list)
    tokens: list[str] = Field(default_factory=list)
    instead_of: str | None = None
    """The parent's own token at the position."""
    entropy: float | None = None
    """In nats, of the parent at the position."""
    alternatives: list[Alternative] = Field(default_factory=list)
    depth: int = 0
    tokens_shared: int = 0
    tokens_generated: int = 0
    delay: int | None = None
    """Tokens that the parent generated between the fork and this node's first token."""
    finish_reason: str | None = None
    ended: str | None = None
    """How it ended: `stop`, `length`, `abort`, `error`, or because it was stopped: `outvoted`, `unsure`, `exit`."""
    answer: str | None = None
    chosen: bool = False


class Tree(openai.BaseModel):
    """The answers of one request, which share their first tokens."""

    nodes: list[TreeNode] = Field(default_factory=list)
    extract: str | None = None
    """The extractor of what the answers say."""
    generated: int = 0
    """Tokens, shared ones counted once."""
    shared: int = 0
    """Tokens that answers took over instead of generating them."""
    stopped: int = 0
    refused: int = 0
    """Branches that the server had no capacity for."""


class TraceData(openai.BaseModel):
    """The fields of a trace."""

    choices: list[TraceChoice]
    fork_points: list[ForkPoint] = Field(default_factory=list)
    intervention_points: list[ForkPoint] = Field(default_factory=list)
    """The tokens at which the policy had an effect."""
    id: str | None = None
    policy: str | None = None
    threshold: float | None = None
    """The fork threshold, in nats."""
    stop_token_ids: list[int] = Field(default_factory=list)
    tree: Tree | None = None
    forkpoint: dict[str, Any] | None = None
    prompt_tokens: int | None = None
    """Set for a supplied text; a generated one has it in its response's `usage`."""
    cost: dict[str, Any] | None = None
    """Set for a supplied text: requests and generated tokens, including those of a verification."""
    verification: dict[str, Any] | None = None
    """How it was verified, its own `cost`, and one object for each of the requested `positions`."""
