"""Measures the entropy profile of a served model on its users' own prompts: where its forks begin, and how sure of them one is."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forkpoint_clients.evaluate.asker import Asker, Question, SamplingParams, ServerLostError, ServerRefusesError
from forkpoint_clients.evaluate.datasets import DataError
from forkpoint_clients.evaluate.datasets import read as read_questions
from forkpoint_policies.tasks.countdown import held_out_puzzles

EMBEDDED_MODEL = "countdown"
PUZZLES = 100
"""Of the embedded model, so many easy and so many hard ones."""

PERCENTILE = 80.0
CERTAIN_BELOW_NATS = 0.01
RESAMPLES = 2000
MIN_PROMPTS = 10
"""Below this many prompts an interval over prompts says little."""

Floats = NDArray[np.float64]
Messages = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class MeasuredAnswer:
    """One answer of the model at temperature 1: its prompt's number, its entropies in nats, and how many tokens reasoned."""

    prompt: int
    entropies: Floats
    reasoning_tokens: int


@dataclass(frozen=True)
class Profile:
    """What was measured: the 80th percentile of the entropies in nats with its interval, and what goes with it."""

    fork_threshold: float
    interval: tuple[float, float]
    share_below_0_01: float
    tokens: int
    answers: int
    prompts: int
    mean_reasoning_tokens: float

    def stored(self, model: str, prompts_digest: str) -> dict[str, Any]:
        """The body of `PUT /v1/calibration`."""
        low, high = self.interval
        return {
            "model": model,
            "fork_threshold": round(self.fork_threshold, 5),
            "interval": [
                min(round(low, 5), round(self.fork_threshold, 5)),
                max(round(high, 5), round(self.fork_threshold, 5)),
            ],
            "share_below_0_01": round(self.share_below_0_01, 5),
            "tokens": self.tokens,
            "answers": self.answers,
            "prompts": self.prompts,
            "mean_reasoning_tokens": round(self.mean_reasoning_tokens, 2),
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "prompts_digest": prompts_digest,
        }


def read_prompts(file: Path) -> list[Messages]:
    """The prompts of a file: JSONL with `question` or `messages`, or a text with one prompt a line. Raises DataError."""
    if file.suffix.lower() in (".jsonl", ".ndjson"):
        return [item.messages for item in read_questions(str(file))]
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file} cannot be read: {error}") from None
    found: list[Messages] = [[{"role": "user", "content": line.strip()}] for line in lines if line.strip()]
    if not found:
        raise DataError(
            f"{file} has no prompts; write one a line, or JSONL such as " + '{"question": "2 + 2?"} into FILE.jsonl'
        )
    return found


def embedded_prompts() -> list[Messages]:
    """Puzzles that the embedded model was not trained on, easy and hard ones in turn."""
    pairs = zip(held_out_puzzles("easy", PUZZLES), held_out_puzzles("hard", PUZZLES), strict=True)
    return [[{"role": "user", "content": puzzle.prompt}] for pair in pairs for puzzle in pair]


def digest(prompts: Sequence[Messages]) -> str:
    """Changes with any prompt or their order."""
    told = json.dumps([list(map(dict, prompt)) for prompt in prompts], sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def summarise(
    written: Sequence[MeasuredAnswer], seed: int = 0, alpha: float = 0.05, resamples: int = RESAMPLES
) -> Profile:
    """The profile of what a model wrote. The interval is a bootstrap over prompts, as tokens of one answer are alike.

    Raises ValueError when nothing was written.
    """
    entropies = np.concatenate([np.zeros(0), *(one.entropies for one in written)])
    if not len(entropies):
        raise ValueError("no token was measured: there is nothing to take a percentile of")
    owners = np.concatenate([np.full(len(one.entropies), one.prompt) for one in written])
    prompts, owner = np.unique(owners, return_inverse=True)
    order = np.argsort(entropies, kind="stable")
    ranked, owner = entropies[order], owner[order]
    random, drawn = np.random.default_rng(seed), np.empty(resamples)
    for number in range(resamples):
        times = np.bincount(random.integers(len(prompts), size=len(prompts)), minlength=len(prompts))
        drawn[number] = _percentile(ranked, times[owner])
    low, high = np.quantile(drawn, [alpha / 2, 1 - alpha / 2]).tolist()
    threshold = _percentile(ranked, np.ones(len(ranked), np.int64))
    return Profile(
        fork_threshold=threshold,
        interval=(min(low, threshold), max(high, threshold)),
        share_below_0_01=float((entropies < CERTAIN_BELOW_NATS).mean()),
        tokens=len(entropies),
        answers=len(written),
        prompts=len(prompts),
        mean_reasoning_tokens=float(np.mean([one.reasoning_tokens for one in written])),
    )


def _percentile(ranked: Floats, times: NDArray[np.int64]) -> float:
    """The smallest of ascending values below or at which 80 % of all lie, where each counts so many times."""
    reached = np.cumsum(times)
    return float(ranked[np.searchsorted(reached, PERCENTILE / 100 * reached[-1])])


async def write(
    asker: Asker,
    prompts: Sequence[Messages],
    tokens: int,
    at_once: int,
    max_tokens: int | None,
    told: Callable[[int], None],
) -> list[MeasuredAnswer]:
    """Let the model answer the prompts in turn, each time with another seed, until so many tokens are there, observed.

    `told` hears of each answer's tokens. Answers that had begun are finished, so that long ones are not left out. Raises
    ServerLostError, ServerRefusesError, and DataError when the server refuses a prompt or measures nothing of an answer.
    """
    sampling, numbers, done = SamplingParams(max_tokens=max_tokens, temperature=1.0), count(), 0
    found: dict[int, MeasuredAnswer] = {}
    running = 0

    def expected() -> float:
        """The tokens once all that runs has ended, if it becomes as long as what has."""
        return done + running * (done / len(found) if found else 0)

    async def work() -> None:
        nonlocal done, running
        while expected() < tokens:
            number = next(numbers)
            running += 1
            await ask(number)
            running -= 1

    async def ask(number: int) -> None:
        nonlocal done
        place = number % len(prompts)
        answer = await asker.ask(Question(prompts[place], seed=number, policy="observe"), sampling)
        if answer.error is not None or answer.response_id is None:
            raise DataError(f"prompt {place + 1}: {answer.error or 'the server gave no id to find the entropies by'}")
        trace = await asker.trace(answer.response_id)
        entropies = np.array(trace["choices"][0]["entropies"], np.float64)
        if not len(entropies):
            raise DataError(
                f"prompt {place + 1}: the server measured no entropy in an answer of {answer.tokens} tokens: its telemetry "
                "does not work, and its log says why"
            )
        found[number] = MeasuredAnswer(place, entropies, trace["forkpoint"]["reasoning_tokens"])
        done += len(entropies)
        told(len(entropies))

    try:
        while done < tokens:
            async with asyncio.TaskGroup() as group:
                for _ in range(at_once):
                    group.create_task(work())
    except* (DataError, ServerLostError, ServerRefusesError) as errors:
        raise errors.exceptions[0] from None
    reached = np.cumsum([len(found[number].entropies) for number in sorted(found)])
    enough = int(np.searchsorted(reached, tokens)) + 1  # however many were asked side by side, the same answers count
    return [found[number] for number in sorted(found)[:enough]]
