"""The signals of every row of logits, measured in one of three ways that agree to rounding.

| module      | used for                                   | how                                                       |
|-------------|--------------------------------------------|-----------------------------------------------------------|
| `in_triton` | CUDA tensors, where Triton can be imported | one read of the logits, by programs that share a row      |
| `in_numba`  | CPU tensors, where numba can be imported   | one fused sweep per row, in machine code; rows on threads |
| `in_torch`  | everything else                            | a sweep per operation, over blocks of rows                |

Neither Triton nor numba is required; vLLM brings both. Which module is used is decided once per kind of device, and
logged. `definition` says what is measured, and `python -m forkpoint_policies.kernel.signals.check` how exact and how
fast it is here.

Each module adds up in an order that depends on the vocabulary alone, so a row gets the same bits alone and in a batch.
(Only `in_torch` on a GPU cannot promise that: there torch chooses the order.) Logits are float32, and temperatures
above 0.
"""

from __future__ import annotations

import logging
from functools import cache
from typing import Protocol

import torch
from torch import Tensor

from . import in_torch
from .definition import MIN_WEIGHT, Signals
from .in_torch import stable_sum

__all__ = [
    "MIN_WEIGHT",
    "Signals",
    "implementation",
    "measure",
    "stable_sum",
    "total_variation",
    "warm_up",
    "weight_at",
]

logger = logging.getLogger(__name__)


class Implementation(Protocol):
    """What each of the three modules offers."""

    def measure(self, logits: Tensor) -> Signals: ...

    def weight_at(self, logits: Tensor, peak: Tensor, temperature: Tensor) -> Tensor: ...

    def total_variation(self, logits: Tensor, before: Tensor, after: Tensor) -> Tensor: ...


@cache
def implementation(device: str) -> Implementation:
    """The module that measures on a type of device ("cpu", "cuda"); the first call for one loads and logs it."""
    if device == "cuda":
        try:
            from . import in_triton
        except ImportError as error:
            logger.warning(
                "Signals on cuda: torch, in many sweeps over the logits, as Triton cannot be imported (%s).", error
            )
        else:
            logger.info("Signals on cuda: Triton, in one read of the logits.")
            return in_triton
    elif device == "cpu":
        try:
            from . import in_numba
        except ImportError as error:
            logger.warning("Signals on cpu: torch, several times slower, as numba cannot be imported (%s).", error)
        else:
            logger.info("Signals on cpu: numba, in one fused sweep per row.")
            return in_numba
    else:
        logger.info("Signals on %s: torch.", device)
    return in_torch


def warm_up(device: str = "cpu") -> None:
    """Load, and for a CPU also compile, what measures on a type of device: two seconds, better spent before the first
    step."""
    implementation(device).measure(torch.zeros(1, 16, device=device))


def measure(logits: Tensor) -> Signals:
    """The signals of [rows, vocabulary] float32 logits. A row of -inf alone is taken as certain."""
    return implementation(logits.device.type).measure(logits)


def weight_at(logits: Tensor, peak: Tensor, temperature: Tensor) -> Tensor:
    """Σ e^((logit - peak) / temperature) per row of [rows, vocabulary]; `peak` and `temperature` are [rows].

    Never less than LEAST_WEIGHT, so that a row of -inf alone can be divided by it.
    """
    return implementation(logits.device.type).weight_at(logits, peak, temperature)


def total_variation(logits: Tensor, before: Tensor, after: Tensor) -> Tensor:
    """½ Σ |p' - p| per row, where p and p' are the distributions of the logits at the temperatures `before` and `after`
    [rows].

    A row of -inf alone has neither, and 0.
    """
    return implementation(logits.device.type).total_variation(logits, before, after)
