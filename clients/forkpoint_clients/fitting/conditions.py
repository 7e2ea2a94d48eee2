"""States that are labelled by conditions: where one holds, or is about to.

The text is given when states are read, so that a label may look at tokens after the state: what kind of thought begins
at the end of another one.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forkpoint_clients.evaluate.asker import Answer
from forkpoint_clients.evaluate.datasets import DataError
from forkpoint_policies.hidden.separation import LabelledStates

from .states import AnswerStates

Condition = Mapping[str, Any]


@dataclass(frozen=True)
class Labels:
    """States are taken where `at` holds. One is positive if `positive` holds at one of the next `ahead` tokens,
    negative if `negative` does; with an `ahead` of 0, at the token itself. Where one of the two is None, it is all that
    the other is not; a state that is both or neither is left out."""

    at: Condition
    positive: Condition | None
    negative: Condition | None
    ahead: int

    @property
    def when(self) -> list[Condition]:
        """The conditions to read states by."""
        return [self.at, *(one for one in (self.positive, self.negative) if one is not None)]


@dataclass(frozen=True, eq=False)
class LabelledAnswer:
    """Of an answer to the question of this index: its states by layer [n, D], their positions [n] and labels [n]."""

    question: int
    layers: Mapping[str, NDArray[np.float32]]
    position: NDArray[np.int64]
    label: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Collected:
    """The states [n] of all answers by layer, with their positions [n], and how many answers there are, and ones
    without a state."""

    layers: Mapping[str, LabelledStates]
    position: NDArray[np.int64]
    answers: int
    without_states: int


def labelled_by(labels: Labels, max_states: int) -> Callable[[int, Answer, AnswerStates], Awaitable[LabelledAnswer]]:
    """For `collect`: labels the states of each answer."""

    async def label(question: int, _answer: Answer, states: AnswerStates) -> LabelledAnswer:
        return labelled_answer(question, states, labels, is_cut=len(states) >= max_states)

    return label


def labelled_answer(question: int, states: AnswerStates, labels: Labels, is_cut: bool) -> LabelledAnswer:
    """Take and label the states of an answer that were read by `labels.when`. Where only the first ones were read
    (`is_cut`), the last ones are left out: what follows them is not known."""
    position, rules = states.position, states.rules
    holds = [set(position[rules >> rule & 1 == 1].tolist()) for rule in range(len(labels.when))]
    at = holds.pop(0)
    positive = None if labels.positive is None else holds.pop(0)
    negative = None if labels.negative is None else holds.pop(0)
    window = range(1, labels.ahead + 1) if labels.ahead else range(1)
    known = int(position[-1]) - labels.ahead if is_cut else None

    def near(place: int, places: set[int]) -> bool:
        return any(place + ahead in places for ahead in window)

    rows, found = [], []
    for row, place in enumerate(position.tolist()):
        if place not in at or (known is not None and place > known):
            continue
        is_positive = not near(place, negative or set()) if positive is None else near(place, positive)
        is_negative = not is_positive if negative is None else near(place, negative)
        if is_positive != is_negative:
            rows.append(row)
            found.append(is_positive)
    return LabelledAnswer(
        question,
        {name: layer[rows] for name, layer in states.layers.items()},
        position[rows],
        np.array(found, np.bool_),
    )


def together(answers: Sequence[LabelledAnswer]) -> Collected:
    """The states of all answers. Raises DataError where there are none."""
    found = [answer for answer in answers if len(answer.label)]
    if not found:
        raise DataError(
            "no state was labelled: the condition of --at held nowhere, or neither --positive nor --negative near it"
        )
    label = np.concatenate([answer.label for answer in found])
    question = np.repeat(
        np.array([answer.question for answer in found], np.int64), [len(answer.label) for answer in found]
    )
    layers = {
        name: LabelledStates(
            np.concatenate([answer.layers[name] for answer in found]).astype(np.float64), label, question
        )
        for name in found[0].layers
    }
    position = np.concatenate([answer.position for answer in found])
    return Collected(layers, position, len(answers), len(answers) - len(found))
