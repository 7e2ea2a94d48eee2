"""How well a direction in hidden states tells two labels apart on questions that it has not seen. NumPy only.

States of one question are alike, so questions are never split: what is fitted and what is held out are of different
ones, and the interval is over questions.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

RESAMPLES = 1000
"""Of the questions, for the interval of an area."""


@dataclass(frozen=True, eq=False)
class LabelledStates:
    """[n, D] states, and of each its label, such as whether its answer was right, and which question it is of."""

    states: Floats
    label: NDArray[np.bool_]
    question: NDArray[np.int64]

    def of(self, questions: NDArray[np.int64]) -> LabelledStates:
        """Those of some questions."""
        chosen = np.isin(self.question, questions)
        return LabelledStates(self.states[chosen], self.label[chosen], self.question[chosen])

    def shuffled_over_questions(self, random: np.random.Generator) -> LabelledStates:
        """The same states, where each question has the label of another one: for labels that a whole answer shares."""
        questions = np.unique(self.question)
        labels = np.array([self.label[self.question == one].mean() > 0.5 for one in questions])
        return LabelledStates(
            self.states, random.permutation(labels)[np.searchsorted(questions, self.question)], self.question
        )

    def shuffled_within_questions(self, random: np.random.Generator) -> LabelledStates:
        """The same states, where the labels of each question are shuffled: for labels that differ within an answer."""
        label = self.label.copy()
        for question in np.unique(self.question):
            chosen = np.flatnonzero(self.question == question)
            label[chosen] = random.permutation(label[chosen])
        return LabelledStates(self.states, label, self.question)


@dataclass(frozen=True)
class Separation:
    """Areas under the ROC curve on held-out questions: of what was fitted, with its 95 % interval over questions, the
    means of two placebos, and the share of the shuffled fits that separate at least as well."""

    fitted: float
    interval: tuple[float, float]
    random_direction: float
    shuffled_labels: float
    p_value: float

    @property
    def beats_chance(self) -> bool:
        """Whether the interval of the area lies above one half, and few fits to shuffled labels are as good."""
        return self.interval[0] > 0.5 and self.p_value < 0.05

    def to_dict(self) -> dict[str, Any]:
        return {
            "interval": list(self.interval),
            "random_direction": self.random_direction,
            "shuffled_labels": self.shuffled_labels,
            "p_value": self.p_value,
        }


Fit = Callable[[LabelledStates], Floats]
"""A direction [D]. Raises ValueError where there are no states of one label."""
Shuffle = Callable[[LabelledStates, np.random.Generator], LabelledStates]


def auc(scores: Floats, label: NDArray[np.bool_]) -> float:
    """The chance that one with the label scores above one without, ties counting half; NaN where a class is missing."""
    positive, negative = np.sort(scores[label]), np.sort(scores[~label])
    if not len(positive) or not len(negative):
        return math.nan
    below = np.searchsorted(negative, positive, side="left") + np.searchsorted(negative, positive, side="right")
    return float(below.sum() / (2 * len(positive) * len(negative)))


def auc_interval(
    scores: Floats, label: NDArray[np.bool_], question: NDArray[np.int64], resamples: int = RESAMPLES, seed: int = 0
) -> tuple[float, float]:
    """The 95 % interval of `auc`: a bootstrap over questions, as the states of one are alike. NaN where a class is
    missing."""
    _, level = np.unique(scores, return_inverse=True)
    questions, owner = np.unique(question, return_inverse=True)
    random, found = np.random.default_rng(seed), []
    for _ in range(resamples):
        times = np.bincount(random.integers(len(questions), size=len(questions)), minlength=len(questions))[owner]
        positive = np.bincount(level, times * label)
        negative = np.bincount(level, times * ~label)
        pairs = positive.sum() * negative.sum()
        if pairs:
            found.append(float((positive * (np.cumsum(negative) - negative / 2)).sum() / pairs))
    if not found:
        return math.nan, math.nan
    low, high = np.quantile(found, [0.025, 0.975]).tolist()
    return low, high


def separation(
    direction: Floats, train: LabelledStates, held_out: LabelledStates, fit: Fit, shuffle: Shuffle,
    placebos: int = 100, seed: int = 0, *, permutes: bool = False,
) -> Separation:  # fmt: skip
    """How well a direction [D] separates questions that it has not seen, beside placebos.

    A random direction gets the sign with which it separates the states that were fitted. `fit` is fitted to labels that
    `shuffle` shuffles. With `permutes`, a permutation test, those of the held-out states are shuffled, too: where the
    labels are the largest variation of the states, any direction separates the real ones.
    """
    random = np.random.default_rng(seed)
    numbers = held_out.states @ direction
    own = auc(numbers, held_out.label)
    interval = auc_interval(numbers, held_out.label, held_out.question)
    by_chance, shuffled = [], []
    for _ in range(placebos):
        other = random.normal(size=len(direction))
        sign = 1.0 if auc(train.states @ other, train.label) >= 0.5 else -1.0
        by_chance.append(auc(held_out.states @ (sign * other), held_out.label))
        try:
            wrong = fit(shuffle(train, random))
        except ValueError:  # of few questions, all may get one label
            continue
        measured = shuffle(held_out, random) if permutes else held_out
        shuffled.append(auc(held_out.states @ wrong, measured.label))
    better = sum(value >= own for value in shuffled)
    return Separation(
        own, interval, float(np.mean(by_chance)), float(np.mean(shuffled)), (1 + better) / (1 + len(shuffled))
    )
