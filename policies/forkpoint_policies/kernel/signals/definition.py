"""What a distribution says about itself: entropy, varentropy and the top probability, from raw logits.

Three moments of d = logit - max hold it all: S0 = Σ e^d, S1 = Σ d e^d, S2 = Σ d² e^d. As ln p = d - ln S0, these follow
from the definitions (Shannon 1948 for the entropy H = -Σ p ln p; Kontoyiannis and Verdú 2013 for the varentropy Σ p (ln
p + H)²):

    H = ln S0 - S1/S0,    varentropy = S2/S0 - (S1/S0)²,    top probability = 1/S0.

A logit of -inf adds nothing to any of them. A row of -inf alone counts as certain: peak 0, total 1, no entropy.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

MIN_EXPONENT = -87.0  # e^-87 is about the smallest normal float32; less adds nothing and is slow
MIN_WEIGHT = 2.0**-126  # the smallest normal float32; negligible beside the 1 or more of a row with any token


@dataclass(frozen=True)
class Signals:
    """Of each row, [rows] float32; entropies in nats, varentropies in nats²."""

    peak: Tensor  # the largest logit
    total: Tensor  # S0, which is relative to the peak
    entropy: Tensor
    varentropy: Tensor
    top_probability: Tensor


def from_moments(peak: Tensor, total: Tensor, first: Tensor, second: Tensor) -> Signals:
    """The signals from the peak, S0, S1 and S2 of each row."""
    mean = first / total
    return Signals(
        peak=peak,
        total=total,
        entropy=(total.log() - mean).clamp_(min=0.0),
        varentropy=(second / total - mean * mean).clamp_(min=0.0),
        top_probability=1.0 / total,
    )
