"""Fits a linear readout to labelled states: a shrunken linear discriminant, calibrated to probabilities. NumPy only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .separation import Floats, LabelledStates

SHRINKAGE = 0.1
"""How much of the covariance within the classes is replaced by a multiple of the identity with the same trace."""
NEWTON_STEPS = 50
PRIOR = 1e-3
"""Precision of a normal prior on the calibration's coefficients: separable scores would have none that is finite."""


@dataclass(frozen=True, eq=False)
class LinearReadout:
    """The probability logistic(weight · h + bias)."""

    weight: Floats  # [D]
    bias: float

    def numbers(self, states: Floats) -> Floats:
        """[n], before the logistic function."""
        found: Floats = states @ self.weight + self.bias
        return found


def fit_direction(data: LabelledStates, shrinkage: float = SHRINKAGE) -> Floats:
    """The direction [D] of the linear discriminant. Raises ValueError where there are no states of one class."""
    if data.label.all() or not data.label.any():
        raise ValueError("all states have one label: there is nothing to tell apart")
    means = [data.states[data.label == label].mean(axis=0) for label in (False, True)]
    centred = data.states - np.where(data.label[:, None], means[1], means[0])
    covariance = centred.T @ centred / len(centred)
    size = len(covariance)
    mean_variance = np.trace(covariance) / size
    shrunken = (1 - shrinkage) * covariance + (shrinkage * mean_variance + 1e-12) * np.eye(size)
    direction: Floats = np.linalg.solve(shrunken, means[1] - means[0])
    return direction


def calibrate(scores: Floats, label: NDArray[np.bool_]) -> tuple[float, float]:
    """Slope and intercept with which the logistic function of a score is a probability: logistic regression."""
    scale = float(scores.std()) or 1.0
    centre = float(scores.mean())
    columns = np.stack([(scores - centre) / scale, np.ones(len(scores))], axis=1)
    coefficients = np.zeros(2)
    for _ in range(NEWTON_STEPS):
        probability = 1 / (1 + np.exp(-(columns @ coefficients).clip(-30, 30)))
        gradient = columns.T @ (label - probability) - PRIOR * coefficients
        curvature = (columns * (probability * (1 - probability))[:, None]).T @ columns + PRIOR * np.eye(2)
        coefficients = coefficients + np.linalg.solve(curvature, gradient)
    slope = float(coefficients[0] / scale)
    return slope, float(coefficients[1] - slope * centre)


def fit_readout(train: LabelledStates, calibration: LabelledStates) -> LinearReadout:
    """A readout from two sets of questions. Raises ValueError where a class is missing."""
    direction = fit_direction(train)
    slope, intercept = calibrate(calibration.states @ direction, calibration.label)
    return LinearReadout(slope * direction, intercept)
