"""Questions on which an arm and the first one differ in their score: what both answered, side by side."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

from forkpoint_clients.evaluate.asker import Answer
from forkpoint_clients.evaluate.datasets import Item
from forkpoint_clients.evaluate.journal import Unit

from .comparison import ScoredAnswer

MAX_FLIPS = 50
"""Flips shown of each arm; the CSV has all answers."""
MAX_CHARACTERS = 4000
"""Of a reasoning shown; its end is where the answer comes from."""


@dataclass(frozen=True)
class FlippedAnswer:
    """One side of a flip; `trace` is the URL of its trace in the console, if the server is a Forkpoint."""

    arm: str
    score: float
    tokens: int
    reasoning: str
    text: str
    finish_reason: str | None
    trace: str | None


@dataclass(frozen=True)
class Flip:
    """One question and sample that an arm and the first one answered with different scores."""

    question: str
    sample: int
    prompt: str
    first: FlippedAnswer
    other: FlippedAnswer

    @property
    def gained(self) -> bool:
        return self.other.score > self.first.score


@dataclass(frozen=True)
class ArmFlips:
    """The flips of an arm against the first: all counted, the first MAX_FLIPS shown."""

    arm: str
    pairs: int
    gained: int
    lost: int
    shown: Sequence[Flip]


def flips(
    answers: Mapping[Unit, ScoredAnswer], arms: Sequence[str], items: Sequence[Item], servers: Mapping[str, str]
) -> list[ArmFlips]:
    """The flips of each arm but the first. `servers` are the arms' URLs."""
    prompts = {item.id: _prompt(item) for item in items}
    found = []
    for arm in arms[1:]:
        pairs = [
            (unit, answers[Unit(unit.question, unit.sample, arms[0])], scored)
            for unit, scored in answers.items()
            if unit.arm == arm and Unit(unit.question, unit.sample, arms[0]) in answers
        ]
        scored_pairs = [pair for pair in pairs if pair[1].score is not None and pair[2].score is not None]
        flipped = [
            Flip(
                unit.question, unit.sample, prompts.get(unit.question, ""),
                _side(arms[0], first, servers), _side(arm, other, servers),
            )
            for unit, first, other in scored_pairs
            if first.score != other.score
        ]  # fmt: skip
        gained = sum(flip.gained for flip in flipped)
        found.append(ArmFlips(arm, len(scored_pairs), gained, len(flipped) - gained, flipped[:MAX_FLIPS]))
    return found


def answers_csv(answers: Mapping[Unit, ScoredAnswer]) -> str:
    """A row for each answer, without texts."""
    output = io.StringIO()
    writer = csv.writer(output, lineterminator="\n")
    writer.writerow([
        "question", "sample", "arm", "score", "tokens", "reasoning_tokens", "finish_reason", "latency_seconds",
        "effect", "response_id", "failure",
    ])  # fmt: skip
    for unit, scored in answers.items():
        answer = scored.answer
        writer.writerow([
            unit.question, unit.sample, unit.arm, scored.score, answer.tokens, answer.reasoning_tokens,
            answer.finish_reason, answer.latency_seconds, answer.effect, answer.response_id, scored.failure,
        ])  # fmt: skip
    return output.getvalue()


def _side(arm: str, scored: ScoredAnswer, servers: Mapping[str, str]) -> FlippedAnswer:
    answer = scored.answer
    reasoning = answer.reasoning
    shortened = f"… {reasoning[-MAX_CHARACTERS:]}" if len(reasoning) > MAX_CHARACTERS else reasoning
    return FlippedAnswer(
        arm, scored.score or 0.0, answer.tokens, shortened, answer.text, answer.finish_reason,
        _trace(answer, servers.get(arm, "")),
    )  # fmt: skip


def _trace(answer: Answer, server: str) -> str | None:
    """Where the console shows an answer, while its server holds the trace. Only a policy's answers have one."""
    parts = urlsplit(server)
    if answer.response_id is None or answer.forkpoint is None or parts.scheme not in ("http", "https"):
        return None
    return f"{parts.scheme}://{parts.netloc}/forkpoint#trace={quote(answer.response_id, safe='')}"


def _prompt(item: Item) -> str:
    """The last message of a question."""
    content: Any = item.messages[-1].get("content")
    return content if isinstance(content, str) else str(content)
