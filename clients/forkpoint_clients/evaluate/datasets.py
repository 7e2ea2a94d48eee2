"""Questions with reference answers: a JSONL file, or Countdown puzzles held out from the embedded model's training."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from forkpoint_policies.tasks.countdown import Difficulty, held_out_puzzles

COUNTDOWN = "countdown:"
PUZZLES = 200
"""The default number of puzzles."""


class DataError(ValueError):
    """A data set that cannot be read; the message says where, and what would be valid."""


@dataclass(frozen=True)
class Item:
    """A question as chat messages. `answer` is the reference answer in the form that the scorer expects, or None."""

    id: str
    messages: tuple[Mapping[str, Any], ...]
    answer: Any = None


def read(source: str, limit: int | None = None, seed: int = 0) -> list[Item]:
    """The first `limit` questions of a JSONL file, or puzzles of `countdown:easy` or `countdown:hard` sampled with
    `seed`.

    Each line of the file is an object with `question` (a text) or `messages` (as in the chat API), `answer`, and an
    optional `id`, which defaults to `line-N`. Other fields are ignored. Raises DataError with the file and line.
    """
    if limit is not None and limit < 1:
        raise DataError(f"the limit must be at least 1, not {limit}")
    if source.startswith(COUNTDOWN):
        return _countdown(source.removeprefix(COUNTDOWN), limit or PUZZLES, seed)
    items = _lines(Path(source))
    return items[:limit]


def digest(items: Sequence[Item]) -> str:
    """A hash of all questions and answers, in order: 16 hex digits."""
    data = json.dumps([asdict(item) for item in items], sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(data.encode()).hexdigest()[:16]


def puzzles(difficulty: Literal["easy", "hard"], count: int, seed: int = 0) -> list[Item]:
    """Held-out Countdown puzzles, with `answer` as the scorer `countdown` expects it.

    Raises ValueError if there are fewer.
    """
    return [
        Item(
            f"{difficulty}-{','.join(map(str, puzzle.numbers))}-{puzzle.target}",
            ({"role": "user", "content": puzzle.prompt},),
            {"numbers": list(puzzle.numbers), "target": puzzle.target},
        )
        for puzzle in held_out_puzzles(difficulty, count, seed)
    ]


def _countdown(difficulty: str, count: int, seed: int) -> list[Item]:
    difficulties: tuple[Difficulty, ...] = get_args(Difficulty)
    for known in difficulties:
        if difficulty == known:
            try:
                return puzzles(known, count, seed)
            except ValueError as error:
                raise DataError(str(error)) from None
    generators = ", ".join(COUNTDOWN + known for known in difficulties)
    raise DataError(f"there is no generator {COUNTDOWN}{difficulty}; there are {generators}")


def _lines(file: Path) -> list[Item]:
    try:
        lines = file.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file} cannot be read: {error}") from None
    items: dict[str, Item] = {}
    line_of: dict[str, int] = {}
    for number, line in enumerate(lines, 1):
        if line.strip():
            where = f"{file}, line {number}"
            item = _item(line, number, where)
            if item.id in items:
                raise DataError(f"{where}: the id {item.id!r} is taken by line {line_of[item.id]}; ids must differ")
            items[item.id], line_of[item.id] = item, number
    if not items:
        raise DataError(
            f"{file} has no questions; a line is an object such as " + '{"question": "2 + 2?", "answer": "4"}'
        )
    return list(items.values())


def _item(line: str, number: int, where: str) -> Item:
    try:
        data = json.loads(line)
    except ValueError as error:
        raise DataError(f"{where}: is not JSON: {error}") from None
    if not isinstance(data, dict):
        raise DataError(f"{where}: must be an object with `question` or `messages`, not {_shortened(data)}")
    if ("question" in data) == ("messages" in data):
        raise DataError(
            f"{where}: needs one of `question` and `messages`, and has {'both' if 'question' in data else 'neither'}"
        )
    identifier = data.get("id", f"line-{number}")
    if isinstance(identifier, bool) or not isinstance(identifier, str | int):
        raise DataError(f"{where}: `id` must be a text or a whole number, not {_shortened(identifier)}")
    return Item(str(identifier), _messages(data, where), data.get("answer"))


def _messages(data: Mapping[str, Any], where: str) -> tuple[Mapping[str, Any], ...]:
    if "question" in data:
        if not isinstance(data["question"], str) or not data["question"].strip():
            raise DataError(f"{where}: `question` must be a text, not {_shortened(data['question'])}")
        return ({"role": "user", "content": data["question"]},)
    messages = data["messages"]
    if not isinstance(messages, list) or not messages:
        raise DataError(f"{where}: `messages` must be a list of messages, not {_shortened(messages)}")
    for index, message in enumerate(messages):
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise DataError(
                f"{where}: `messages[{index}]` must be an object with `role` and `content`, not {_shortened(message)}"
            )
    return tuple(messages)


def _shortened(value: Any) -> str:
    """A value as JSON, shortened for an error message."""
    shown = json.dumps(value, ensure_ascii=False)
    return shown if len(shown) <= 40 else f"{shown[:40]}…"
