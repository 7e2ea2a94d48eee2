"""Reference answers as texts."""

from __future__ import annotations

from typing import Any

import pytest

from forkpoint_clients.evaluate.datasets import Item, puzzles
from forkpoint_clients.evaluate.references import reference_text
from forkpoint_policies.tasks.countdown import Puzzle, is_correct, solution


def item(answer: Any) -> Item:
    return Item("q", ({"role": "user", "content": "2 + 2?"},), answer)


@pytest.mark.parametrize(
    ("answer", "text"),
    [("four", "four"), (4, "4"), (4.5, "4.5"), ({"gym": "chain_sum", "answer": "-3"}, "-3"), (None, None), ([4], None)],
)
def test_the_answer_as_a_text(answer: Any, text: str | None) -> None:
    assert reference_text(item(answer)) == text


def test_puzzles_are_solved() -> None:
    for difficulty in ("easy", "hard"):
        for puzzle in puzzles(difficulty, 20):
            asked = Puzzle(tuple(puzzle.answer["numbers"]), puzzle.answer["target"])
            assert is_correct(asked, reference_text(puzzle)), puzzle.id


def test_a_puzzle_without_a_solution_has_none() -> None:
    assert solution(Puzzle((1, 1, 1), 99)) is None
    assert reference_text(item({"numbers": [1, 1, 1], "target": 99})) is None
