"""States that are labelled by whether their answer is right."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from forkpoint_clients.evaluate.asker import Answer
from forkpoint_clients.evaluate.datasets import DataError, Item
from forkpoint_clients.evaluate.scorers import Scorer, ScorerError
from forkpoint_policies.hidden.separation import LabelledStates

from .states import LAST_LAYER, AnswerStates

RIGHT_FROM = 0.5
"""The score from which an answer is right."""


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


def scored_by(scorer: Scorer, items: Sequence[Item]) -> Callable[[int, Answer, AnswerStates], Awaitable[ScoredAnswer]]:
    """For `collect`: scores each answer. Raises DataError for one that cannot be scored."""

    async def score(question: int, answer: Answer, states: AnswerStates) -> ScoredAnswer:
        item = items[question]
        try:
            found = await asyncio.to_thread(scorer.score, item, answer.text)
        except ScorerError as error:
            raise DataError(f"question {item.id!r}: the scorer {scorer.name!r} {error}") from None
        return ScoredAnswer(question, found >= RIGHT_FROM, states)

    return score


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
