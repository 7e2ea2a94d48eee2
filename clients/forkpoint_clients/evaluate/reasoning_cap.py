"""The plain cap on the reasoning that an early exit must beat: the one with the same mean number of tokens."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


def cap_at_mean(reasoning: ArrayLike, rest: float, mean_tokens: float) -> int:
    """The cap on reasoning tokens with which answers have `mean_tokens` on average.

    `reasoning` [answers] are the reasoning tokens of answers without a cap, at least one; `rest` is the mean number of
    tokens after them.
    """
    lengths = np.asarray(reasoning, np.float64)
    caps = np.arange(1, max(1, int(lengths.max())) + 1)
    means = np.array([np.minimum(lengths, cap).mean() for cap in caps]) + rest
    return int(caps[np.argmin(np.abs(means - mean_tokens))])
