"""The entropy of a position's likeliest tokens."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def top_entropy(probabilities: Sequence[float]) -> float:
    """The entropy, in nats, of these probabilities, renormalised."""
    shares = np.array([probability for probability in probabilities if probability > 0])
    shares /= shares.sum()
    return float(-(shares * np.log(shares)).sum())
