"""The parts into which questions are split, and what the position of a token alone says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from forkpoint_clients.evaluate.datasets import DataError
from forkpoint_policies.hidden.separation import LabelledStates, auc, auc_interval

Questions = NDArray[np.int64]


@dataclass(frozen=True)
class Split:
    """A part of the questions: states, questions, and the share of states with the label."""

    states: int
    questions: int
    share: float

    @classmethod
    def of(cls, part: LabelledStates) -> Split:
        return cls(len(part.label), len(np.unique(part.question)), float(part.label.mean()))


@dataclass(frozen=True)
class PositionSeparation:
    """The area under the ROC curve, on held-out questions, of the token's position alone, and its interval."""

    area: float
    interval: tuple[float, float]


def split_questions(
    states: LabelledStates, shares: Mapping[str, float], rest: str, random: np.random.Generator
) -> dict[str, Questions]:
    """Shuffle the questions, and give each part its share of those that the parts before have left; `rest` gets all
    others."""
    left = random.permutation(np.unique(states.question))
    parts = {}
    for name, share in shares.items():
        count = round(share * len(left))
        parts[name], left = left[:count], left[count:]
    return {**parts, rest: left}


def check_parts(states: LabelledStates, parts: Mapping[str, Questions], names: tuple[str, str], advice: str) -> None:
    """Raise DataError for a part without states of one label; `names` are what states with and without it are."""
    for name, questions in parts.items():
        label = states.of(questions).label
        if len(label) and label.any() and not label.all():
            continue
        which = "no states" if not len(label) else f"only {names[0] if label.all() else names[1]}"
        raise DataError(f"the questions that are {name} have {which}: there is nothing to tell apart. {advice}")


def separation_of_position(
    states: LabelledStates, position: NDArray[np.int64], fitted: Questions, held_out: Questions
) -> PositionSeparation:
    """What the position says on held-out questions, with the sign with which it separates the fitted ones."""
    early = -position.astype(np.float64)
    train, test = np.isin(states.question, fitted), np.isin(states.question, held_out)
    sign = 1.0 if auc(early[train], states.label[train]) >= 0.5 else -1.0
    numbers, label = sign * early[test], states.label[test]
    return PositionSeparation(auc(numbers, label), auc_interval(numbers, label, states.question[test]))
