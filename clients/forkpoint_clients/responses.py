"""The SDK's responses with what Forkpoint adds to them: the `forkpoint` object, and the reasoning of a message."""

from __future__ import annotations

from typing import Any

import openai
from openai.types import Completion
from openai.types.chat import ChatCompletion, ChatCompletionChunk, ChatCompletionMessage
from openai.types.chat.chat_completion import Choice
from openai.types.chat.chat_completion_chunk import Choice as ChunkChoice
from openai.types.chat.chat_completion_chunk import ChoiceDelta
from openai.types.responses import Response
from pydantic import Field

from .trace_data import ForkPoint, Subscriptable


class Intervention(Subscriptable):
    """How often an action fired, and its effect: the expected number of tokens that it changed."""

    fired: int
    effect: float


class TreeAnswer(Subscriptable):
    """What a leaf of a tree answers, and the index of its choice in the response; None if it has none."""

    index: int
    choice: int | None = None
    answer: str | None = None


class Summary(Subscriptable):
    """The `forkpoint` object of a response: what its policy did. Entropies are means in nats; None without a token."""

    model: str
    policy: str | None = None
    digest: str | None = None
    shadow: bool = False
    experiment: str | None = None
    arm: str | None = None
    tokens: int
    forks: int
    mean_entropy: float | None = None
    mean_entropy_forks: float | None = None
    mean_entropy_execution: float | None = None
    threshold: float
    """The fork threshold, in nats."""
    reasoning_tokens: int = 0
    interventions: dict[str, Intervention] = Field(default_factory=dict)
    """By action."""
    left_alone: int = 0
    """Positions at which a rule fired and the action did not apply, as its tokens had all the probability."""
    forced: int = 0
    """Tokens that the policy wrote."""
    refused: int = 0
    """Forced tokens that the request's grammar did not allow."""
    branches: int = 0
    tokens_shared: int = 0
    """Tokens that branches took over from their trunk."""
    answers: list[TreeAnswer] = Field(default_factory=list)
    complete: bool = True
    """False if telemetry was lost: the figures then cover fewer tokens."""
    warnings: list[str] = Field(default_factory=list)
    fork_points: list[ForkPoint] | None = None
    """For requests with `forks`."""


class ForkpointMessage(ChatCompletionMessage):
    """A message with its reasoning, where the server parses reasoning."""

    reasoning: str | None = None


class ForkpointChoice(Choice):
    """A choice of a chat completion."""

    message: ForkpointMessage


class ForkpointCompletion(ChatCompletion):
    """A chat completion. `forkpoint` is None if the request had neither a policy nor `forks`."""

    choices: list[ForkpointChoice]  # type: ignore[assignment]  # a list of a subclass
    forkpoint: Summary | None = None


class ForkpointDelta(ChoiceDelta):
    """What is new in a message that is streamed."""

    reasoning: str | None = None


class ForkpointChunkChoice(ChunkChoice):
    """A choice of a chunk."""

    delta: ForkpointDelta


class ForkpointChunk(ChatCompletionChunk):
    """A chunk of a streamed chat completion; the last one has the `forkpoint` object."""

    choices: list[ForkpointChunkChoice]  # type: ignore[assignment]  # a list of a subclass
    forkpoint: Summary | None = None


class ForkpointTextCompletion(Completion):
    """A completion, or a chunk of one; the last chunk has the `forkpoint` object."""

    forkpoint: Summary | None = None


class ForkpointResponse(Response):
    """A response of the responses API."""

    forkpoint: Summary | None = None


def forkpoint_of(response: openai.BaseModel) -> Summary:
    """The `forkpoint` object of a response of this client or of a plain `openai.OpenAI`.

    Raises LookupError for a response without one: the request had neither a policy nor `forks`.
    """
    found: Any = getattr(response, "forkpoint", None)
    if found is None:
        raise LookupError(
            "the response has no `forkpoint` object; send `policy`, or `forks=True` to see forks without a policy"
        )
    return found if isinstance(found, Summary) else Summary.model_validate(found)
