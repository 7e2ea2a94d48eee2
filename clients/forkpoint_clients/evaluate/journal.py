"""The answers of a run on disk, one line of JSON each. An answer is durable before the next question is sent."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

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


class Stored(NamedTuple):
    """The content of a journal.

    `configurations` are in the order in which runs started; the first is the first line. `questions` maps the ids of
    answered questions to the digests of their content, where these were stored. `length` counts the bytes of the
    complete lines.
    """

    configurations: Sequence[Mapping[str, Any]] = ()
    answers: Mapping[Unit, Answer] = {}
    questions: Mapping[str, str] = {}
    length: int = 0


Configure = Callable[[Stored], Mapping[str, Any]]
"""The configuration of a run that continues a journal. Raises JournalError if it cannot."""


class Journal:
    """The journal of a folder, created or continued. `answers` are those it holds; only one process may open it.

    The first line is the configuration of the first run. A run with another one adds a line of its own before its
    answers. A last line that a crash left unfinished is dropped. Use it as `with Journal(…)`.
    """

    def __init__(self, folder: Path, configuration: Mapping[str, Any] | Configure) -> None:
        """`configuration` is the run's, or a function of what is stored that returns it.

        Raises JournalError if the folder is in use, or if it holds a run with another configuration (as the function
        decides).
        """
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / JOURNAL_FILE
        self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            self.stored = self._open(configuration if callable(configuration) else same(configuration))
        except BaseException:
            os.close(self._file)
            raise
        self.answers = dict(self.stored.answers)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._file)

    def write(self, unit: Unit, answer: Answer, question_digest: str | None = None) -> None:
        """Append an answer. On return it is on disk. Raises OSError, after which the file is as before."""
        digest = {} if question_digest is None else {"digest": question_digest}
        data = {"question": unit.question, **digest, "sample": unit.sample, "arm": unit.arm}
        self._append({**data, "answer": answer.to_dict()})
        self.answers[unit] = answer

    def _open(self, configure: Configure) -> Stored:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise JournalError(f"{self.path} is in use by another run") from None
        raw = self.path.read_bytes()
        stored = read(self.path, raw) if b"\n" in raw else Stored()
        if not stored.answers:  # there is nothing to lose or to mix
            stored, length = Stored(), stored.length
            configuration = configure(stored)
            if not length and not _line(configuration).startswith(raw):
                raise JournalError(f"{self.path} is not a journal of forkpoint ab; choose another folder")
            os.ftruncate(self._file, 0)
            self._append(configuration)
            _sync(self.path.parent)
            return stored._replace(configurations=[configuration])
        configuration = json.loads(json.dumps(configure(stored)))
        os.ftruncate(self._file, stored.length)
        if configuration == stored.configurations[-1]:
            return stored
        self._append(configuration)
        return stored._replace(configurations=[*stored.configurations, configuration])

    def _append(self, data: Mapping[str, Any]) -> None:
        line, whole = memoryview(_line(data)), os.fstat(self._file).st_size
        try:
            while line:
                line = line[os.write(self._file, line) :]
            os.fsync(self._file)
        except OSError:
            os.ftruncate(self._file, whole)  # or the next line would follow half of this one
            raise


@dataclass
class _Reader:
    """What was read of a journal so far."""

    configurations: list[Mapping[str, Any]] = field(default_factory=list)
    answers: dict[Unit, Answer] = field(default_factory=dict)
    questions: dict[str, str] = field(default_factory=dict)

    def line(self, data: Any) -> None:
        """Read one line: an answer, or the configuration of another run. Raises ValueError, TypeError, KeyError."""
        if not self.configurations or "answer" not in data:
            if not isinstance(data, dict) or (self.configurations and data.keys() != self.configurations[0].keys()):
                raise KeyError("question")
            self.configurations.append(data)
            return
        unit = Unit(data["question"], data["sample"], data["arm"])
        self.answers.setdefault(unit, Answer.from_dict(data["answer"]))
        if "digest" in data:
            self.questions.setdefault(unit.question, data["digest"])


def read(path: Path, raw: bytes | None = None) -> Stored:
    """Read a journal. Raises JournalError if the file is not one."""
    lines = (path.read_bytes() if raw is None else raw).split(b"\n")
    reader, length = _Reader(), 0
    for number, line in enumerate(lines[: max(1, len(lines) - 1)], 1):  # the rest is empty, or left by a crash
        try:
            reader.line(json.loads(line))
        except (ValueError, TypeError, KeyError) as error:
            if number == 1:
                raise JournalError(f"{path} is not a journal of forkpoint ab: {error}") from None
            if number == len(lines) - 1:
                break  # the file was extended, but part of the line did not reach the disk
            raise JournalError(f"{path}, line {number}: is not an answer: {type(error).__name__}: {error}") from None
        length += len(line) + 1
    return Stored(reader.configurations, reader.answers, reader.questions, length)


def same(configuration: Mapping[str, Any]) -> Configure:
    """Continues only a run of the same configuration."""

    def configure(stored: Stored) -> Mapping[str, Any]:
        if not stored.configurations:
            return configuration
        before = stored.configurations[-1]
        if differing := list(differences(before, json.loads(json.dumps(configuration)))):
            raise JournalError(
                f"the folder holds a run of another configuration: {'; '.join(differing)}. "
                "Give another folder, or the same configuration to continue it"
            )
        return before

    return configure


def _line(data: Mapping[str, Any]) -> bytes:
    return json.dumps(data, separators=(",", ":")).encode() + b"\n"  # ASCII, as texts may hold lone surrogates


def differences(stored: Any, current: Any, field: str = "") -> Iterator[str]:
    """A sentence for each field in which two configurations differ."""
    if isinstance(stored, dict) and isinstance(current, dict):
        for name in sorted({*stored, *current}):
            yield from differences(stored.get(name), current.get(name), f"{field}.{name}" if field else name)
    elif isinstance(stored, list) and isinstance(current, list) and len(stored) == len(current):
        for index, (before, now) in enumerate(zip(stored, current, strict=True)):
            yield from differences(before, now, f"{field}[{index}]")
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
