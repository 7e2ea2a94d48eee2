"""Labelled states: a model answers questions, and the states of each answer are labelled by whether it is right."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forkpoint_clients.evaluate.asker import Asker, Question, SamplingParams, ServerLostError, ServerRefusesError
from forkpoint_clients.evaluate.datasets import DataError, Item
from forkpoint_clients.evaluate.scorers import Scorer, ScorerError
from forkpoint_policies.hidden.fit_readout import LabelledStates

from .states import LAST_LAYER, AnswerStates, read_states

RIGHT_FROM = 0.5
"""The score from which an answer is right."""


@dataclass(frozen=True)
class Setting:
    """What is asked, and where states are read: `samples` answers to each question."""

    items: Sequence[Item]
    scorer: Scorer
    when: Mapping[str, Any]
    samples: int
    seed: int
    sampling: SamplingParams
    max_states: int
    concurrency: int


@dataclass(frozen=True, eq=False)
class ScoredAnswer:
    """An answer to the question of this index."""

    question: int
    right: bool
    states: AnswerStates


@dataclass(frozen=True, eq=False)
class Collected:
    """The states [n] of all answers with their positions [n], and how many answers there are, right ones and ones
    without a state."""

    states: LabelledStates
    position: NDArray[np.int64]
    answers: int
    right_answers: int
    without_states: int


async def collect(asker: Asker, setting: Setting, answered: Callable[[], None]) -> list[ScoredAnswer]:
    """Ask everything, and read the states of each answer. `answered` is called after each.

    Raises ServerLostError, ServerRefusesError, and DataError if the server rejects a question or it cannot be scored.
    """
    free = asyncio.Semaphore(setting.concurrency)

    async def one(number: int) -> ScoredAnswer:
        question = number // setting.samples
        item = setting.items[question]
        async with free:
            asked = Question(item.messages, seed=setting.seed + number, policy="observe")
            answer = await asker.ask(asked, setting.sampling)
            if answer.error is not None or answer.response_id is None:
                raise DataError(f"question {item.id!r}: {answer.error or 'the response has no id'}")
            states = await read_states(asker, answer.response_id, [setting.when], setting.max_states)
            try:
                score = await asyncio.to_thread(setting.scorer.score, item, answer.text)
            except ScorerError as error:
                raise DataError(f"question {item.id!r}: the scorer {setting.scorer.name!r} {error}") from None
        answered()
        return ScoredAnswer(question, score >= RIGHT_FROM, states)

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(number)) for number in range(len(setting.items) * setting.samples)]
    except* (DataError, ServerLostError, ServerRefusesError) as errors:
        raise errors.exceptions[0] from None
    return [task.result() for task in tasks]


def labelled(answers: Sequence[ScoredAnswer]) -> Collected:
    """The states of answers, each with its answer's label. Raises DataError where there are none."""
    found = [answer for answer in answers if len(answer.states)]
    if not found:
        raise DataError(
            "no state was read: the condition of --at held nowhere. A model without a reasoning region, or one that "
            "writes no full stops, needs another"
        )
    counts = [len(answer.states) for answer in found]
    states = LabelledStates(
        np.concatenate([answer.states.layers[LAST_LAYER] for answer in found]).astype(np.float64),
        np.repeat(np.array([answer.right for answer in found]), counts),
        np.repeat(np.array([answer.question for answer in found], np.int64), counts),
    )
    return Collected(
        states,
        np.concatenate([answer.states.position for answer in found]),
        len(answers),
        sum(answer.right for answer in answers),
        len(answers) - len(found),
    )
