"""Scores an answer from 0 to 1 with an extractor of the policy language, a Python function, or a command."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import re
import shlex
import subprocess
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from forkpoint_policies.answers.sympy_process import SYMPY
from forkpoint_policies.spec.answer_extractors import extractor, formula, value_of
from forkpoint_policies.tasks.countdown import Puzzle, is_correct

from . import gym
from .datasets import DataError, Item

COMMAND_SECONDS = 60
PYTHON, COMMAND, REGEX = "python:", "command:", "regex:"
MATH = "math"
EXTRACTED = {"exact": "text", "number": "last_number", "boxed": "boxed", "last_line": "last_line", MATH: MATH}
"""Scorers that compare what an extractor finds in the text with the reference answer."""


class ScorerError(Exception):
    """A scorer raised, or returned no number from 0 to 1: this one answer has no score."""


@dataclass(frozen=True)
class Scorer:
    """`measure` scores a text (without its reasoning) for an item; it may raise anything."""

    name: str
    measure: Callable[[Item, str], float | None]
    needs_answer: bool = True

    def score(self, item: Item, text: str) -> float:
        """A score from 0 to 1. Raises ScorerError for anything that goes wrong in `measure`."""
        try:
            value = self.measure(item, text)
        except (Exception, SystemExit) as error:  # noqa: BLE001  # a user's code: nothing it raises may end the run
            raise ScorerError(f"{type(error).__name__}: {error}") from None
        try:
            score = float(value)  # type: ignore[arg-type]  # checked right here
        except (TypeError, ValueError):
            raise ScorerError(f"gave {value!r}, not a number from 0 to 1") from None
        if not math.isfinite(score) or not 0 <= score <= 1:
            raise ScorerError(f"gave {value!r}, not a number from 0 to 1")
        return score

    def check(self, items: Sequence[Item]) -> None:
        """Raises DataError at the first item that it can never score."""
        if not self.needs_answer:
            return
        for item in items:
            if item.answer is None:
                raise DataError(f"question {item.id!r} has no `answer`, which the scorer {self.name!r} compares with")


def scorer(name: str) -> Scorer:
    """A scorer by name: one in EXTRACTED, `json_field:PATH`, `countdown`, `gym`, `gym:partial`, `regex:PATTERN`,
    `python:FILE.py:FUNCTION`, `command:…`.

    `math` compares as mathematics; where two spellings differ, Math-Verify decides, which also accepts a rounded number
    and a percentage for its value. A pattern with a group compares the group's last match with the reference answer;
    one without a group must match. A function gets the text and the reference answer. A command gets the text on stdin
    and the answer in FORKPOINT_ANSWER; it prints a score, or prints nothing and exits with 0 if the text is right, with
    1 if it is wrong.
    Raises ValueError that says what would be valid.
    """
    if name == "countdown":
        return Scorer(name, _countdown)
    if name in ("gym", "gym:partial"):
        return Scorer(name, _gym if name == "gym" else _gym_partial)
    if name.startswith(REGEX):
        return _regex(name)
    if name.startswith(PYTHON):
        return _python(name)
    if name.startswith(COMMAND):
        return _command(name)
    try:
        read = extractor(EXTRACTED.get(name, name))
    except ValueError:
        known = ", ".join(
            [
                *EXTRACTED,
                "countdown",
                "gym",
                "gym:partial",
                "json_field:PATH",
                "regex:PATTERN",
                "python:FILE.py:FUNCTION",
                "command:COMMAND",
            ]
        )
        raise ValueError(f"there is no scorer {name!r}; there are {known}") from None
    plain = extractor("text")

    def same(item: Item, text: str) -> float:
        reference, found = str(item.answer), read(text)
        if found is None:
            return 0.0
        if found in (read(reference), plain(reference), value_of(reference)):
            return 1.0
        return float(name == MATH and SYMPY.agree(formula(reference) or "", formula(text) or ""))

    return Scorer(name, same)


def _countdown(item: Item, text: str) -> float:
    puzzle = Puzzle(tuple(item.answer["numbers"]), item.answer["target"])
    return float(is_correct(puzzle, text))


def _gym(item: Item, text: str) -> float:
    """1 where the generator gives its full mark: most give a little for any number, too."""
    return float(_gym_partial(item, text) == 1)


def _gym_partial(item: Item, text: str) -> float:
    of = item.answer
    if not isinstance(of, dict) or "gym" not in of:
        raise ValueError(f"the scorer gym needs a question of --data {gym.GYM}NAME")
    return gym.score(gym.GymSource(of["gym"], of["size"], of["seed"]), of["index"], text)


def _regex(name: str) -> Scorer:
    try:
        pattern = re.compile(name.removeprefix(REGEX), re.MULTILINE)
    except re.error as error:
        raise ValueError(f"{name}: is not a regular expression: {error}") from None
    if pattern.groups > 1:
        raise ValueError(f"{name}: has {pattern.groups} groups; only one can be compared, so write the others as (?:…)")
    if not pattern.groups:
        return Scorer(name, lambda _, text: float(bool(pattern.search(text))), needs_answer=False)

    def same(item: Item, text: str) -> float:
        groups = [match.group(1) for match in pattern.finditer(text) if match.group(1) is not None]
        return float(bool(groups) and value_of(groups[-1]) == value_of(str(item.answer)))

    return Scorer(name, same)


def _python(name: str) -> Scorer:
    path, _, function = name.removeprefix(PYTHON).rpartition(":")
    if not path or not function:
        raise ValueError(f"{name}: must be {PYTHON}FILE.py:FUNCTION")
    attribute = getattr(_module(Path(path), name), function, None)
    if not callable(attribute):
        raise ValueError(f"{name}: {path} has no function {function!r}")  # noqa: TRY004  # as of any wrong name
    measure: Callable[[str, Any], float] = attribute
    lock = threading.Lock()  # answers are scored in parallel, and a user's function need not be thread-safe

    def run(item: Item, text: str) -> float:
        with lock:
            return measure(text, item.answer)

    return Scorer(name, run, needs_answer=False)


def _module(file: Path, name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"scorer_{file.stem}", file)
    if spec is None or spec.loader is None:
        raise ValueError(f"{name}: {file} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # noqa: BLE001  # a user's code
        raise ValueError(f"{name}: {file} cannot be loaded: {type(error).__name__}: {error}") from None
    return module


def _command(name: str) -> Scorer:
    try:
        words = shlex.split(name.removeprefix(COMMAND))
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    if not words:
        raise ValueError(f"{name}: must be {COMMAND} and what to run, as in '{COMMAND}grep -q 42'")

    def run(item: Item, text: str) -> float:
        answer = item.answer if isinstance(item.answer, str) else json.dumps(item.answer)
        completed = subprocess.run(  # noqa: S603  # the user's own command, run without a shell
            words,
            input=text,
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
            env={**os.environ, "FORKPOINT_ANSWER": answer, "FORKPOINT_ID": item.id},
            check=False,
        )
        if completed.returncode not in (0, 1):
            raise RuntimeError(f"ended with {completed.returncode}: {completed.stderr.strip()[-200:]}")
        if completed.stdout.strip():
            return float(completed.stdout)
        return 1.0 - completed.returncode

    return Scorer(name, run, needs_answer=False)
