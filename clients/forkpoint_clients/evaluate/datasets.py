"""Questions with their right answers: a JSONL file, or Countdown puzzles that the embedded model never saw."""

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
"""How many puzzles, when nothing is said."""


class DataError(ValueError):
    """A data set that cannot be read; the message says where and what would be right."""


@dataclass(frozen=True)
class Item:
    """A question as chat messages. `answer` is the right one, in whatever form the scorer takes; None when there is none."""

    id: str
    messages: tuple[Mapping[str, Any], ...]
    answer: Any = None


def read(source: str, limit: int | None = None, seed: int = 0) -> list[Item]:
    """The first `limit` questions of a JSONL file or of `countdown:easy` and `countdown:hard`, drawn by `seed`.

    A line of the file is an object with `question` (a text) or `messages` (as the chat API takes them), `answer`, and optionally an
    `id`; without one, it is `line-N`. Other fields are left alone. Raises DataError with the file and line.
    """
    if limit is not None and limit < 1:
        raise DataError(f"the limit must be at least 1, not {limit}")
    if source.startswith(COUNTDOWN):
        return _countdown(source.removeprefix(COUNTDOWN), limit or PUZZLES, seed)
    items = _lines(Path(source))
    return items[:limit]


def digest(items: Sequence[Item]) -> str:
    """Changes with any question, answer or their order."""
    data = json.dumps([asdict(item) for item in items], sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(data.encode()).hexdigest()[:16]


def puzzles(difficulty: Literal["easy", "hard"], count: int, seed: int = 0) -> list[Item]:
    """Held-out Countdown puzzles; `answer` is what the scorer `countdown` needs. Raises ValueError when there are fewer."""
    return [
        Item(
            f"{difficulty}-{','.join(map(str, puzzle.numbers))}-{puzzle.target}",
            ({"role": "user", "content": puzzle.prompt},),
            {"numbers": list(puzzle.numbers), "target": puzzle.target},
        )
        for puzzle in held_out_puzzles(difficulty, count, seed)
    ]


def _countdown(difficulty: str, count: int, seed: int) -> list[Item]:
    known: tuple[Difficulty, ...] = get_args(Difficulty)
    for one in known:
        if difficulty == one:
            try:
                return puzzles(one, count, seed)
            except ValueError as error:
                raise DataError(str(error)) from None
    raise DataError(
        f"there is no generator {COUNTDOWN}{difficulty}; there are {', '.join(COUNTDOWN + one for one in known)}"
    )


def _lines(file: Path) -> list[Item]:
    try:
        lines = file.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file} cannot be read: {error}") from None
    found: dict[str, Item] = {}
    first: dict[str, int] = {}
    for number, line in enumerate(lines, 1):
        if line.strip():
            where = f"{file}, line {number}"
            item = _item(line, number, where)
            if item.id in found:
                raise DataError(f"{where}: the id {item.id!r} is taken by line {first[item.id]}; ids must differ")
            found[item.id], first[item.id] = item, number
    if not found:
        raise DataError(
            f"{file} has no questions; a line is an object such as " + '{"question": "2 + 2?", "answer": "4"}'
        )
    return list(found.values())


def _item(line: str, number: int, where: str) -> Item:
    try:
        data = json.loads(line)
    except ValueError as error:
        raise DataError(f"{where}: is not JSON: {error}") from None
    if not isinstance(data, dict):
        raise DataError(f"{where}: must be an object with `question` or `messages`, not {_kind(data)}")
    if ("question" in data) == ("messages" in data):
        raise DataError(
            f"{where}: needs one of `question` and `messages`, and has {'both' if 'question' in data else 'neither'}"
        )
    given = data.get("id", f"line-{number}")
    if isinstance(given, bool) or not isinstance(given, str | int):
        raise DataError(f"{where}: `id` must be a text or a whole number, not {_kind(given)}")
    return Item(str(given), _messages(data, where), data.get("answer"))


def _messages(data: Mapping[str, Any], where: str) -> tuple[Mapping[str, Any], ...]:
    if "question" in data:
        if not isinstance(data["question"], str) or not data["question"].strip():
            raise DataError(f"{where}: `question` must be a text, not {_kind(data['question'])}")
        return ({"role": "user", "content": data["question"]},)
    messages = data["messages"]
    if not isinstance(messages, list) or not messages:
        raise DataError(f"{where}: `messages` must be a list of messages, not {_kind(messages)}")
    for place, message in enumerate(messages):
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise DataError(
                f"{where}: `messages[{place}]` must be an object with `role` and `content`, not {_kind(message)}"
            )
    return tuple(messages)


def _kind(value: Any) -> str:
    shown = json.dumps(value, ensure_ascii=False)
    return shown if len(shown) <= 40 else f"{shown[:40]}…"
