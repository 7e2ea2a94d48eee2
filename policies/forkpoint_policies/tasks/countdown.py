"""Countdown puzzles: which exist, which are held out of training, and whether an answer is right.

A puzzle gives three or four whole numbers and a target; every number is used exactly once with `+ - * /`.
All intermediate values stay in 0..99, subtraction never goes below zero, and division is exact.
"""

from __future__ import annotations

import ast
import hashlib
import itertools
import operator
import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

NUMBERS = range(1, 16)
TARGETS = range(5, 100)
LARGEST = 99

Difficulty = Literal["easy", "hard"]


@dataclass(frozen=True)
class Puzzle:
    """`numbers` in the order of the question, and the `target` they must make."""

    numbers: tuple[int, ...]
    target: int

    @property
    def prompt(self) -> str:
        """The user message."""
        return f"Use {', '.join(map(str, self.numbers))} to make {self.target}."


def combine(left: int, sign: str, right: int) -> int | None:
    """The value of one step, or None where the rules of the game forbid it."""
    if sign == "+":
        value = left + right
    elif sign == "*":
        value = left * right
    elif sign == "-":
        value = left - right
    elif right == 0 or left % right:
        return None
    else:
        value = left // right
    return value if 0 <= value <= LARGEST else None


@cache
def reachable(numbers: tuple[int, ...]) -> int:
    """Bit v is set when the numbers (sorted) can make v, each used exactly once."""
    if len(numbers) == 1:
        return 1 << numbers[0]
    found = 0
    for i, j in itertools.combinations(range(len(numbers)), 2):
        rest = numbers[:i] + numbers[i + 1 : j] + numbers[j + 1 :]
        small, large = numbers[i], numbers[j]
        for value in {combine(large, sign, small) for sign in "+-*/"}:
            if value is not None:
                found |= reachable(tuple(sorted((*rest, value))))
    return found


@cache
def solutions(numbers: tuple[int, ...], target: int) -> int:
    """In how many ways (sequences of steps, up to the order of equal operands) the numbers make the target."""
    if len(numbers) == 1:
        return int(numbers[0] == target)
    count = 0
    for i, j in itertools.combinations(range(len(numbers)), 2):
        rest = numbers[:i] + numbers[i + 1 : j] + numbers[j + 1 :]
        for sign in "+-*/":
            value = combine(numbers[j], sign, numbers[i])
            if value is not None:
                count += solutions(tuple(sorted((*rest, value))), target)
    return count


def solution(puzzle: Puzzle) -> str | None:
    """An expression that solves the puzzle, the same one each time; None if there is none."""
    return _solution(tuple(sorted((number, str(number)) for number in puzzle.numbers)), puzzle.target)


def _solution(terms: tuple[tuple[int, str], ...], target: int) -> str | None:
    """As `solution`, of terms with their values, sorted."""
    if len(terms) == 1:
        return terms[0][1] if terms[0][0] == target else None
    for i, j in itertools.combinations(range(len(terms)), 2):
        rest = terms[:i] + terms[i + 1 : j] + terms[j + 1 :]
        (small, right), (large, left) = terms[i], terms[j]
        for sign in "+-*/":
            value = combine(large, sign, small)
            if value is not None:
                term = f"{left} {sign} {right}"
                found = _solution(tuple(sorted((*rest, (value, f"({term})" if rest else term)))), target)
                if found is not None:
                    return found
    return None


def _share(text: str) -> float:
    """A number in [0, 1) that depends on the text alone: how the split stays the same for ever."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) / 2**64


def held_out(numbers: Sequence[int], target: int) -> bool:
    """Whether training never sees this puzzle: whole number sets (5 %), and 10 % of the other puzzles."""
    key = ",".join(map(str, sorted(numbers)))
    return _share(f"set {key}") < 0.05 or _share(f"puzzle {key} {target}") < 0.10


def solvable(size: int) -> Iterator[tuple[tuple[int, ...], int]]:
    """Every (sorted numbers, target) of this size that has a solution."""
    for numbers in itertools.combinations_with_replacement(NUMBERS, size):
        values = reachable(numbers)
        for target in TARGETS:
            if values >> target & 1:
                yield numbers, target


def held_out_puzzles(difficulty: Difficulty, count: int, seed: int = 0) -> list[Puzzle]:
    """A fixed sample of held-out puzzles: `easy` has three numbers, `hard` four with at most 12 solutions.

    Raises ValueError when fewer than `count` exist.
    """
    size = 3 if difficulty == "easy" else 4
    pool = [(numbers, target) for numbers, target in solvable(size) if held_out(numbers, target)]
    draw = random.Random(f"{difficulty} {seed}")
    draw.shuffle(pool)
    chosen: list[Puzzle] = []
    for numbers, target in pool:
        if len(chosen) == count:
            return chosen
        if difficulty == "easy" or solutions(numbers, target) <= 12:
            chosen.append(Puzzle(tuple(draw.sample(numbers, size)), target))
    if len(chosen) < count:
        raise ValueError(f"there are {len(chosen)} held-out {difficulty} puzzles, {count} were requested")
    return chosen


_OPERATORS: dict[type[ast.operator], Callable[[int, int], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


def _evaluate(node: ast.expr, used: list[int]) -> float:
    if isinstance(node, ast.Constant) and isinstance(node.value, int):
        used.append(node.value)
        return node.value
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        return _OPERATORS[type(node.op)](_evaluate(node.left, used), _evaluate(node.right, used))  # type: ignore[arg-type]
    raise ValueError("not an expression of whole numbers with + - * /")


def is_correct(puzzle: Puzzle, answer: str | None) -> bool:
    """Whether the answer is an expression that uses each number exactly once and makes the target."""
    if not answer or not re.fullmatch(r"[0-9+\-*/() ]{1,80}", answer.strip()):
        return False
    used: list[int] = []
    try:
        value = _evaluate(ast.parse(answer.strip(), mode="eval").body, used)
    except (SyntaxError, ValueError, ZeroDivisionError):
        return False
    return sorted(used) == sorted(puzzle.numbers) and abs(value - puzzle.target) < 1e-9
