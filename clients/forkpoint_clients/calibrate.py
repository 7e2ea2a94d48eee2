"""Measures a served model's fork threshold, with a confidence interval, on its users' own prompts."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count, filterfalse
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
"""The number of easy, and of hard, puzzles for the embedded model."""

PERCENTILE = 80.0
CERTAIN_BELOW_NATS = 0.01
RESAMPLES = 2000
MIN_PROMPTS = 10
"""With fewer prompts, an interval over prompts says little."""

Floats = NDArray[np.float64]
Messages = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class MeasuredAnswer:
    """One answer at temperature 1: its prompt's index, its entropies [tokens] in nats, and its number of reasoning
    tokens.
    """

    prompt: int
    entropies: Floats
    reasoning_tokens: int


@dataclass(frozen=True)
class Profile:
    """The measured profile: the 80th percentile of the entropies in nats with its 95 % interval, and its context."""

    fork_threshold: float
    interval: tuple[float, float]
    share_below_0_01: float
    tokens: int
    answers: int
    prompts: int
    mean_reasoning_tokens: float

    def to_dict(self, model: str, prompts_digest: str) -> dict[str, Any]:
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
    """The prompts of a file: JSONL with `question` or `messages`, or a text with one per line. Raises DataError."""
    if file.suffix.lower() in (".jsonl", ".ndjson"):
        return [item.messages for item in read_questions(str(file))]
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file} cannot be read: {error}") from None
    prompts: list[Messages] = [[{"role": "user", "content": line.strip()}] for line in lines if line.strip()]
    if not prompts:
        raise DataError(
            f"{file} has no prompts; write one a line, or JSONL such as " + '{"question": "2 + 2?"} into FILE.jsonl'
        )
    return prompts


def embedded_prompts() -> list[Messages]:
    """Puzzles held out from the embedded model's training, easy and hard ones alternating."""
    pairs = zip(held_out_puzzles("easy", PUZZLES), held_out_puzzles("hard", PUZZLES), strict=True)
    return [[{"role": "user", "content": puzzle.prompt}] for pair in pairs for puzzle in pair]


def digest(prompts: Sequence[Messages]) -> str:
    """A hash of all prompts, in order: 16 hex digits."""
    serialized = json.dumps([list(map(dict, prompt)) for prompt in prompts], sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(serialized.encode()).hexdigest()[:16]


def summarise(
    answers: Sequence[MeasuredAnswer], seed: int = 0, alpha: float = 0.05, resamples: int = RESAMPLES
) -> Profile:
    """The profile of a model's answers.

    The interval is a bootstrap over prompts, as tokens of one answer are correlated.

    Raises ValueError without tokens.
    """
    entropies = np.concatenate([np.zeros(0), *(answer.entropies for answer in answers)])
    if not len(entropies):
        raise ValueError("no token was measured: there is nothing to take a percentile of")
    owners = np.concatenate([np.full(len(answer.entropies), answer.prompt) for answer in answers])
    prompts, owner = np.unique(owners, return_inverse=True)
    # percentiles of resampled prompts, from entropies sorted once
    order = np.argsort(entropies, kind="stable")
    ranked, owner = entropies[order], owner[order]
    rng, percentiles = np.random.default_rng(seed), np.empty(resamples)
    for number in range(resamples):
        times = np.bincount(rng.integers(len(prompts), size=len(prompts)), minlength=len(prompts))
        percentiles[number] = _percentile(ranked, times[owner])
    low, high = np.quantile(percentiles, [alpha / 2, 1 - alpha / 2]).tolist()
    threshold = _percentile(ranked, np.ones(len(ranked), np.int64))
    return Profile(
        fork_threshold=threshold,
        interval=(min(low, threshold), max(high, threshold)),
        share_below_0_01=float((entropies < CERTAIN_BELOW_NATS).mean()),
        tokens=len(entropies),
        answers=len(answers),
        prompts=len(prompts),
        mean_reasoning_tokens=float(np.mean([answer.reasoning_tokens for answer in answers])),
    )


def _percentile(ranked: Floats, times: NDArray[np.int64]) -> float:
    """The smallest of ascending values [tokens] at or below which 80 % of all lie, each counted `times` [tokens]."""
    reached = np.cumsum(times)
    return float(ranked[np.searchsorted(reached, PERCENTILE / 100 * reached[-1])])


async def measure_answers(
    asker: Asker,
    prompts: Sequence[Messages],
    tokens: int,
    concurrency: int,
    max_tokens: int | None,
    measured: Callable[[int, MeasuredAnswer], None],
    earlier: Mapping[int, MeasuredAnswer] | None = None,
) -> list[MeasuredAnswer]:
    """Let the model answer the prompts round-robin, each time with another seed, until `tokens` have an entropy.

    `measured` is called with the number and the measurement of each answer; `earlier` has those of an interrupted run,
    which are not requested again. Answers in progress are finished, so that long ones are not left out. Raises
    ServerLostError, ServerRefusesError, and DataError if the server rejects a prompt or measures nothing.
    """
    answers = dict(earlier or {})
    sampling = SamplingParams(max_tokens=max_tokens, temperature=1.0)
    numbers = filterfalse(answers.__contains__, count())
    done, running = sum(len(answer.entropies) for answer in answers.values()), 0

    def expected() -> float:
        """The tokens once the running answers end, if they are as long as the completed ones."""
        return done + running * (done / len(answers) if answers else 0)

    async def work() -> None:
        nonlocal done, running
        while expected() < tokens:
            number = next(numbers)
            running += 1
            await measure_answer(number)
            running -= 1

    async def measure_answer(number: int) -> None:
        nonlocal done
        prompt = number % len(prompts)
        answer = await asker.ask(Question(prompts[prompt], seed=number, policy="observe"), sampling)
        if answer.error is not None or answer.response_id is None:
            raise DataError(f"prompt {prompt + 1}: {answer.error or 'the server gave no id to find the entropies by'}")
        trace = await asker.trace(answer.response_id)
        entropies = np.array(trace["choices"][0]["entropies"], np.float64)
        if not len(entropies):
            raise DataError(
                f"prompt {prompt + 1}: the server measured no entropy in an answer of {answer.tokens} tokens: its "
                "telemetry does not work, and its log says why"
            )
        answers[number] = MeasuredAnswer(prompt, entropies, trace["forkpoint"]["reasoning_tokens"])
        done += len(entropies)
        measured(number, answers[number])

    try:
        while done < tokens:
            async with asyncio.TaskGroup() as group:
                for _ in range(concurrency):
                    group.create_task(work())
    except* (DataError, ServerLostError, ServerRefusesError) as errors:
        raise errors.exceptions[0] from None
    ordered = [answers[number] for number in sorted(answers)]
    reached = np.cumsum([len(answer.entropies) for answer in ordered])
    enough = int(np.searchsorted(reached, tokens)) + 1  # the same answers count at any concurrency
    return ordered[:enough]
