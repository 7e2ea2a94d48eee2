"""What a hidden state says about a reference answer: the estimate of arXiv:2506.02867.

It is the normalised HSIC of arXiv:1908.01580 between two states, whose D coordinates count as samples: with their
centred Gaussian kernels K, trace(R_x R_y) where R = K (K + epsilon D I)^-1. Compared with `mi_estimators.py` of
ChnQ/MI-Peaks at 52d282bfdf (stored as hhh2210/MI-Peaks), 2026-11-27: the same formula, width and epsilon, in float64
where theirs is float32.
"""

from __future__ import annotations

import numpy as np

from forkpoint_clients.evaluate.stats import Floats

WIDTH = 50.0
EPSILON = 1e-5


def information(states: Floats, reference: Floats) -> Floats:
    """The estimate for each of the states [n, D] with the reference's state [D]: [n], from 0 to D - 1."""
    size = len(reference)
    kernel = _centred_kernel(reference)
    right = kernel @ np.linalg.inv(kernel + EPSILON * size * np.eye(size))
    return np.array([_with(state, right) for state in states], np.float64)


def _with(state: Floats, right: Floats) -> float:
    kernel = _centred_kernel(state)
    solved = np.linalg.solve(kernel + EPSILON * len(state) * np.eye(len(state)), right)
    return float(np.sum(kernel * solved.T))


def _centred_kernel(state: Floats) -> Floats:
    """The Gaussian kernel of the coordinates of a state [D], its rows centred: [D, D]."""
    distances = np.square(np.subtract.outer(state, state, dtype=np.float64))
    kernel: Floats = np.exp(-distances / (2 * WIDTH**2))
    kernel -= kernel.mean(axis=1, keepdims=True)
    return kernel
