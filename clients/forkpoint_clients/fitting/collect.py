"""Lets a model answer questions, and reads the hidden states of each answer where conditions hold."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from forkpoint_clients.evaluate.asker import (
    Answer,
    Asker,
    Question,
    SamplingParams,
    ServerLostError,
    ServerRefusesError,
)
from forkpoint_clients.evaluate.datasets import DataError, Item

from .states import AnswerStates, Layer, read_states

T = TypeVar("T")


@dataclass(frozen=True)
class Setting:
    """What is asked, and which states are read: of these layers, at the first `max_states` positions of an answer where
    a condition of `when` holds. `samples` answers to each question."""

    items: Sequence[Item]
    when: Sequence[Mapping[str, Any]]
    layers: Sequence[Layer]
    samples: int
    seed: int
    sampling: SamplingParams
    max_states: int
    concurrency: int

    @property
    def num_answers(self) -> int:
        return len(self.items) * self.samples


async def collect(
    asker: Asker, setting: Setting, label: Callable[[int, Answer, AnswerStates], Awaitable[T]],
    answered: Callable[[], None],
) -> list[T]:  # fmt: skip
    """Ask everything, and read the states of each answer: what `label` makes of the index of a question, an answer and
    its states. `answered` is called after each.

    Raises ServerLostError, ServerRefusesError, and DataError if the server rejects a question or `label` does.
    """
    free = asyncio.Semaphore(setting.concurrency)

    async def one(number: int) -> T:
        question = number // setting.samples
        item = setting.items[question]
        async with free:
            asked = Question(item.messages, seed=setting.seed + number, policy="observe")
            answer = await asker.ask(asked, setting.sampling)
            if answer.error is not None or answer.response_id is None:
                raise DataError(f"question {item.id!r}: {answer.error or 'the response has no id'}")
            states = await read_states(asker, answer.response_id, setting.when, setting.max_states, setting.layers)
            found = await label(question, answer, states)
        answered()
        return found

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(number)) for number in range(setting.num_answers)]
    except* (DataError, ServerLostError, ServerRefusesError) as errors:
        raise errors.exceptions[0] from None
    return [task.result() for task in tasks]
