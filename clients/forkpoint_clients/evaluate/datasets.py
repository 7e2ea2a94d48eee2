"""Questions with reference answers: a JSONL file, Countdown puzzles held out from the embedded model's training,
reasoning-gym's generators (`gym`), or a data set on the hub (`hub_data`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from forkpoint_policies.tasks.countdown import Difficulty, held_out_puzzles

from . import gym, hub_data

COUNTDOWN = "countdown:"
SOURCES = "a JSONL file, countdown:easy, countdown:hard, gym:NAME[:SIZE[:SEED]], hf:REPOSITORY[:CONFIG[:SPLIT]]"
"""What can be named as data."""

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
    """The first `limit` questions of a JSONL file, of `gym:NAME[:SIZE[:SEED]]` or of `hf:REPOSITORY[:CONFIG[:SPLIT]]`,
    or puzzles of `countdown:easy` or `countdown:hard` sampled with `seed`.

    Each line of the file is an object with `question` (a text) or `messages` (as in the chat API), `answer`, and an
    optional `id`, which defaults to `line-N`. Other fields are ignored. Raises DataError with the file and line.
    """
    if limit is not None and limit < 1:
        raise DataError(f"the limit must be at least 1, not {limit}")
    if source.startswith(COUNTDOWN):
        return _countdown(source.removeprefix(COUNTDOWN), limit or PUZZLES, seed)
    if source.startswith(gym.GYM):
        items = _generated(gym.parse(source), limit)
    elif source.startswith(hub_data.HUB):
        items = _of_hub(hub_data.parse(source))
    else:
        items = _lines(Path(source))
    return items[:limit]


def default_scorer(source: str) -> str:
    """The scorer of a source if none is named."""
    if source.startswith(COUNTDOWN):
        return "countdown"
    return "gym" if source.startswith(gym.GYM) else "exact"


def provenance(source: str) -> dict[str, Any]:
    """What a report must say of questions that others made, beside their source and digest: versions and seed."""
    if source.startswith(gym.GYM):
        return gym.parse(source).provenance()
    return hub_data.parse(source).provenance() if source.startswith(hub_data.HUB) else {}


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


def _generated(source: gym.GymSource, limit: int | None) -> list[Item]:
    """`answer` holds what the scorer `gym` needs to find the question again."""
    items = []
    for index in range(min(source.size, limit or source.size)):
        entry = source.entry(index)
        where = {"gym": source.name, "size": source.size, "seed": source.seed, "index": index}
        items.append(
            Item(
                f"{source.name}-{source.seed}-{index}",
                ({"role": "user", "content": entry["question"]},),
                {**where, "answer": str(entry["answer"])},
            )
        )
    return items


def _of_hub(source: hub_data.HubSource) -> list[Item]:
    return [
        Item(f"{source.split}-{number}", _messages(row, f"{source.repository}, row {number}"), row["answer"])
        for number, row in enumerate(source.rows(), 1)
    ]


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
