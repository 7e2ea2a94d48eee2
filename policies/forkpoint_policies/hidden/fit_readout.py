"""Fits a linear readout to labelled states: a shrunken linear discriminant, calibrated to probabilities. NumPy only.

States of one question are alike, so questions are never split: what is fitted, what is calibrated and what is held out
are of different ones, and the placebo shuffles the labels of whole questions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

SHRINKAGE = 0.1
"""How much of the covariance within the classes is replaced by a multiple of the identity with the same trace."""
NEWTON_STEPS = 50
RESAMPLES = 1000
"""Of the questions, for the interval of an area."""
PRIOR = 1e-3
"""Precision of a normal prior on the calibration's coefficients: separable scores would have none that is finite."""


@dataclass(frozen=True, eq=False)
class LabelledStates:
    """[n, D] states, and of each whether its answer was right and which question it is of."""

    states: Floats
    right: NDArray[np.bool_]
    question: NDArray[np.int64]

    def of(self, questions: NDArray[np.int64]) -> LabelledStates:
        """Those of some questions."""
        chosen = np.isin(self.question, questions)
        return LabelledStates(self.states[chosen], self.right[chosen], self.question[chosen])

    def with_shuffled_labels(self, random: np.random.Generator) -> LabelledStates:
        """The same states, where each question has the labels of another one."""
        questions = np.unique(self.question)
        label = np.array([self.right[self.question == one].mean() > 0.5 for one in questions])
        return LabelledStates(
            self.states, random.permutation(label)[np.searchsorted(questions, self.question)], self.question
        )


@dataclass(frozen=True, eq=False)
class LinearReadout:
    """The probability logistic(weight · h + bias)."""

    weight: Floats  # [D]
    bias: float

    def numbers(self, states: Floats) -> Floats:
        """[n], before the logistic function."""
        found: Floats = states @ self.weight + self.bias
        return found


@dataclass(frozen=True)
class Separation:
    """Areas under the ROC curve on held-out questions: of the readout, with its 95 % interval over questions, the means
    of two placebos, and the share of the shuffled fits that separate at least as well."""

    readout: float
    interval: tuple[float, float]
    random_direction: float
    shuffled_labels: float
    p_value: float


def fit_direction(data: LabelledStates, shrinkage: float = SHRINKAGE) -> Floats:
    """The direction [D] of the linear discriminant. Raises ValueError where there are no states of one class."""
    if data.right.all() or not data.right.any():
        raise ValueError("all answers are right, or none: there is nothing to tell apart")
    means = [data.states[data.right == label].mean(axis=0) for label in (False, True)]
    centred = data.states - np.where(data.right[:, None], means[1], means[0])
    covariance = centred.T @ centred / len(centred)
    size = len(covariance)
    mean_variance = np.trace(covariance) / size
    shrunken = (1 - shrinkage) * covariance + (shrinkage * mean_variance + 1e-12) * np.eye(size)
    direction: Floats = np.linalg.solve(shrunken, means[1] - means[0])
    return direction


def calibrate(scores: Floats, right: NDArray[np.bool_]) -> tuple[float, float]:
    """Slope and intercept with which the logistic function of a score is a probability: logistic regression."""
    scale = float(scores.std()) or 1.0
    centre = float(scores.mean())
    columns = np.stack([(scores - centre) / scale, np.ones(len(scores))], axis=1)
    coefficients = np.zeros(2)
    for _ in range(NEWTON_STEPS):
        probability = 1 / (1 + np.exp(-(columns @ coefficients).clip(-30, 30)))
        gradient = columns.T @ (right - probability) - PRIOR * coefficients
        curvature = (columns * (probability * (1 - probability))[:, None]).T @ columns + PRIOR * np.eye(2)
        coefficients = coefficients + np.linalg.solve(curvature, gradient)
    slope = float(coefficients[0] / scale)
    return slope, float(coefficients[1] - slope * centre)


def fit_readout(train: LabelledStates, calibration: LabelledStates) -> LinearReadout:
    """A readout from two sets of questions. Raises ValueError where a class is missing."""
    direction = fit_direction(train)
    slope, intercept = calibrate(calibration.states @ direction, calibration.right)
    return LinearReadout(slope * direction, intercept)


def auc(scores: Floats, right: NDArray[np.bool_]) -> float:
    """The chance that a right one scores above a wrong one, ties counting half; NaN where a class is missing."""
    positive, negative = np.sort(scores[right]), np.sort(scores[~right])
    if not len(positive) or not len(negative):
        return math.nan
    below = np.searchsorted(negative, positive, side="left") + np.searchsorted(negative, positive, side="right")
    return float(below.sum() / (2 * len(positive) * len(negative)))


def auc_interval(
    scores: Floats, right: NDArray[np.bool_], question: NDArray[np.int64], resamples: int = RESAMPLES, seed: int = 0
) -> tuple[float, float]:
    """The 95 % interval of `auc`: a bootstrap over questions, as the states of one are alike. NaN where a class is
    missing."""
    _, level = np.unique(scores, return_inverse=True)
    questions, owner = np.unique(question, return_inverse=True)
    random, found = np.random.default_rng(seed), []
    for _ in range(resamples):
        times = np.bincount(random.integers(len(questions), size=len(questions)), minlength=len(questions))[owner]
        positive = np.bincount(level, times * right)
        negative = np.bincount(level, times * ~right)
        pairs = positive.sum() * negative.sum()
        if pairs:
            found.append(float((positive * (np.cumsum(negative) - negative / 2)).sum() / pairs))
    if not found:
        return math.nan, math.nan
    low, high = np.quantile(found, [0.025, 0.975]).tolist()
    return low, high


def separation(
    readout: LinearReadout, train: LabelledStates, held_out: LabelledStates, placebos: int = 100, seed: int = 0
) -> Separation:
    """How well a readout tells right from wrong on questions that it has not seen, beside placebos.

    A random direction gets the sign with which it separates the states that were fitted.
    """
    random = np.random.default_rng(seed)
    numbers = readout.numbers(held_out.states)
    own = auc(numbers, held_out.right)
    interval = auc_interval(numbers, held_out.right, held_out.question)
    by_chance, shuffled = [], []
    for _ in range(placebos):
        direction = random.normal(size=len(readout.weight))
        sign = 1.0 if auc(train.states @ direction, train.right) >= 0.5 else -1.0
        by_chance.append(auc(held_out.states @ (sign * direction), held_out.right))
        try:
            wrong = fit_direction(train.with_shuffled_labels(random))
        except ValueError:  # of few questions, all may get one label
            continue
        shuffled.append(auc(held_out.states @ wrong, held_out.right))
    better = sum(value >= own for value in shuffled)
    return Separation(
        own, interval, float(np.mean(by_chance)), float(np.mean(shuffled)), (1 + better) / (1 + len(shuffled))
    )
