"""The answers of a run on disk, one line of JSON each. An answer is durable before the next question is sent."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from .asker import Answer

JOURNAL_FILE = "journal.jsonl"


class JournalError(Exception):
    """A journal that cannot be continued; the message says why."""


@dataclass(frozen=True)
class Unit:
    """The `sample`-th answer to one question under one arm."""

    question: str
    sample: int
    arm: str


class Journal:
    """The journal of a folder, created or continued. `answers` are those it holds; only one process may open it.

    The first line is the run's configuration. A last line that a crash left unfinished is dropped. Use it as `with
    Journal(…)`.
    """

    def __init__(self, folder: Path, configuration: Mapping[str, Any]) -> None:
        """Raises JournalError if the folder holds a run with another configuration, or is in use."""
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / JOURNAL_FILE
        self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            self.answers = self._open(json.loads(json.dumps(configuration)))
        except BaseException:
            os.close(self._file)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._file)

    def write(self, unit: Unit, answer: Answer) -> None:
        """Append an answer. On return it is on disk. Raises OSError, after which the file is as before."""
        self._append({"question": unit.question, "sample": unit.sample, "arm": unit.arm, "answer": answer.to_dict()})
        self.answers[unit] = answer

    def _open(self, configuration: Mapping[str, Any]) -> dict[Unit, Answer]:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise JournalError(f"{self.path} is in use by another run") from None
        raw = self.path.read_bytes()
        stored, answers, whole = read(self.path, raw) if b"\n" in raw else (None, {}, 0)
        if not whole and not _line(configuration).startswith(raw):
            raise JournalError(f"{self.path} is not a journal of forkpoint ab; choose another folder")
        if not answers:  # there is nothing to lose or to mix
            os.ftruncate(self._file, 0)
            self._append(configuration)
            _sync(self.path.parent)
            return {}
        if differing := list(_differences(stored, configuration)):
            raise JournalError(
                f"{self.path.parent} holds a run of another configuration: {'; '.join(differing)}. "
                "Give another folder, or the same configuration to continue it"
            )
        os.ftruncate(self._file, whole)
        return answers

    def _append(self, data: Mapping[str, Any]) -> None:
        line, whole = memoryview(_line(data)), os.fstat(self._file).st_size
        try:
            while line:
                line = line[os.write(self._file, line) :]
            os.fsync(self._file)
        except OSError:
            os.ftruncate(self._file, whole)  # or the next line would follow half of this one
            raise


def read(path: Path, raw: bytes | None = None) -> tuple[dict[str, Any], dict[Unit, Answer], int]:
    """The configuration, the answers, and the length in bytes of the complete lines.

    Raises JournalError if it is not a journal.
    """
    lines = (path.read_bytes() if raw is None else raw).split(b"\n")
    answers: dict[Unit, Answer] = {}
    try:
        configuration = json.loads(lines[0])
        length = len(lines[0]) + 1
        if not isinstance(configuration, dict):
            raise TypeError("the first line is not a configuration")
    except (ValueError, TypeError) as error:
        raise JournalError(f"{path} is not a journal of forkpoint ab: {error}") from None
    for number, line in enumerate(lines[1:-1], 2):  # what follows the last line end is empty, or left by a crash
        try:
            data = json.loads(line)
            unit = Unit(data["question"], data["sample"], data["arm"])
            answers.setdefault(unit, Answer.from_dict(data["answer"]))
        except (ValueError, TypeError, KeyError) as error:
            if number == len(lines) - 1:
                break  # the file was extended, but part of the line did not reach the disk
            raise JournalError(f"{path}, line {number}: is not an answer: {type(error).__name__}: {error}") from None
        length += len(line) + 1
    return configuration, answers, length


def _line(data: Mapping[str, Any]) -> bytes:
    return json.dumps(data, separators=(",", ":")).encode() + b"\n"  # ASCII, as texts may hold lone surrogates


def _differences(stored: Any, current: Any, field: str = "") -> Iterator[str]:
    """A sentence for each field in which two configurations differ."""
    if isinstance(stored, dict) and isinstance(current, dict):
        for name in sorted({*stored, *current}):
            yield from _differences(stored.get(name), current.get(name), f"{field}.{name}" if field else name)
    elif isinstance(stored, list) and isinstance(current, list) and len(stored) == len(current):
        for index, (before, now) in enumerate(zip(stored, current, strict=True)):
            yield from _differences(before, now, f"{field}[{index}]")
    elif stored != current:
        yield f"{field} was {_shortened(stored)}, is {_shortened(current)}"


def _shortened(value: Any) -> str:
    shown = json.dumps(value, ensure_ascii=False)
    return shown if len(shown) <= 80 else f"{shown[:80]}…"


def _sync(folder: Path) -> None:
    """Flush a folder: a new file is durable once its folder entry is."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
