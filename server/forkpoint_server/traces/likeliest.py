"""The likeliest tokens at a position, and what their probabilities say of the model's confidence there."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Alternatives:
    """The likeliest tokens at a position, with probabilities at temperature 1: negative if the policy removed one."""

    tokens: tuple[int, ...]
    signed: tuple[float, ...]

    @property
    def probabilities(self) -> tuple[float, ...]:
        return tuple(map(abs, self.signed))


def confidence_of(probabilities: NDArray[np.float32]) -> NDArray[np.float32]:
    """[m] in nats, of the k likeliest tokens' probabilities, [m, k]: -1/k Σ ln p (arXiv:2508.15260, with k = 20)."""
    confidence: NDArray[np.float32] = -np.log(np.maximum(probabilities, 1e-30)).mean(axis=1)
    return confidence


def margin_of(probabilities: NDArray[np.float32]) -> NDArray[np.float32]:
    """[m], by how much the likeliest of k tokens leads the second, [m, k]."""
    return (
        probabilities[:, 0] - probabilities[:, 1]
        if probabilities.shape[1] > 1
        else np.ones(len(probabilities), np.float32)
    )
