"""Fits a vector to labelled states: what, added to a state, moves it towards those with the label. NumPy only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np

from .fit_readout import fit_direction
from .separation import Fit, Floats, LabelledStates

Method = Literal["mean-difference", "discriminant"]


def mean_difference(data: LabelledStates) -> Floats:
    """The mean of the states with the label less that of the others, [D]. Raises ValueError where one is missing."""
    if data.label.all() or not data.label.any():
        raise ValueError("all states have one label: there is nothing to tell apart")
    difference: Floats = data.states[data.label].mean(axis=0) - data.states[~data.label].mean(axis=0)
    return difference


def discriminant(data: LabelledStates) -> Floats:
    """The direction of the shrunken linear discriminant, with the norm of the difference of means."""
    direction = fit_direction(data)
    scaled: Floats = direction * (np.linalg.norm(mean_difference(data)) / np.linalg.norm(direction))
    return scaled


METHODS: Mapping[Method, Fit] = {"mean-difference": mean_difference, "discriminant": discriminant}
