"""The reference answer of a question as a text: scorers expect it in forms of their own."""

from __future__ import annotations

from collections.abc import Mapping

from forkpoint_policies.tasks.countdown import Puzzle, solution

from .datasets import Item


def reference_text(item: Item) -> str | None:
    """The reference answer; of a Countdown puzzle one of its solutions. None if the question has none."""
    answer = item.answer
    if isinstance(answer, Mapping) and "target" in answer:
        return solution(Puzzle(tuple(answer["numbers"]), answer["target"]))
    if isinstance(answer, Mapping):
        answer = answer.get("answer")
    return str(answer) if isinstance(answer, str | int | float) else None
