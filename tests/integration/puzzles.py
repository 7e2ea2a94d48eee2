"""Requests to the embedded model, as a user would send them."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import openai

from forkpoint_policies.spec.connectors import NOWAIT_WORDS
from forkpoint_policies.tasks.countdown import Puzzle, is_correct

MESSAGES: list[Any] = [{"role": "user", "content": "Use 3, 7, 2 to make 17."}]
CONCURRENCY = 32
WHOLE_ANSWER_TOKENS = 1500  # in which nearly every answer ends
BANNED = re.compile(rf"(?<![a-z0-9_])({'|'.join(NOWAIT_WORDS)})(?![a-z0-9_])", re.IGNORECASE)
"""The words of `nowait`, whole, in any case."""


@dataclass(frozen=True)
class Attempt:
    """One answer to a puzzle, with the response's `forkpoint` object and its id."""

    puzzle: Puzzle
    reasoning: str
    answer: str | None
    summary: dict[str, Any]
    response_id: str

    @property
    def correct(self) -> bool:
        return is_correct(self.puzzle, self.answer)


def attempt(
    client: openai.OpenAI, puzzle: Puzzle, policy: Any = "observe", seed: int = 1, max_tokens: int = WHOLE_ANSWER_TOKENS
) -> Attempt:
    """Request an answer to a puzzle at temperature 1."""
    response = client.chat.completions.create(
        model="countdown",
        messages=[{"role": "user", "content": puzzle.prompt}],
        temperature=1.0,
        max_tokens=max_tokens,
        seed=seed,
        extra_body={"policy": policy},
    )
    message = response.choices[0].message
    extra = message.model_extra or {}
    return Attempt(puzzle, extra.get("reasoning") or "", message.content, summary_of(response), response.id)


def attempts(
    client: openai.OpenAI, puzzles: list[Puzzle], policy: Any = "observe", max_tokens: int = WHOLE_ANSWER_TOKENS
) -> list[Attempt]:
    """Request many answers concurrently."""
    with ThreadPoolExecutor(CONCURRENCY) as pool:
        return list(pool.map(lambda puzzle: attempt(client, puzzle, policy, max_tokens=max_tokens), puzzles))


def summary_of(response: Any) -> dict[str, Any]:
    """The `forkpoint` object of any response of an SDK."""
    extra: dict[str, Any] = response.model_extra or {}
    summary: dict[str, Any] = extra["forkpoint"]
    return summary
