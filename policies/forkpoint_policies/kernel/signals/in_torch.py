"""The signals in plain torch, for where nothing better is at hand: one sweep over the logits per operation.

A block of rows at a time, so that what one operation wrote is still in the cache when the next reads it.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from .definition import MIN_EXPONENT, MIN_WEIGHT, Signals, from_moments

CHUNK = 1024
BLOCK_ELEMENTS = 1 << 18  # on a CPU: a block of rows that stays in a core's second-level cache, with its work buffer
DEVICE_ELEMENTS = 1 << 26  # elsewhere: large enough to fill a device, small enough for its memory


def measure(logits: Tensor) -> Signals:
    """The signals of [rows, vocabulary] float32 logits. A row of -inf alone is taken as certain."""
    highest = logits.amax(dim=-1)
    certain = highest == -torch.inf
    peak = torch.where(certain, 0.0, highest)
    moments = logits.new_empty(3, len(logits))
    for part in _blocks(logits):
        depth = _depth(logits[part], peak[part]).clamp_(min=MIN_EXPONENT)
        weight = depth.exp()
        moments[0, part] = stable_sum(weight)
        moments[1, part] = stable_sum(weight.mul_(depth))
        moments[2, part] = stable_sum(weight.mul_(depth))
    return from_moments(
        peak,
        torch.where(certain, 1.0, moments[0]),
        torch.where(certain, 0.0, moments[1]),
        torch.where(certain, 0.0, moments[2]),
    )


def weight_at(logits: Tensor, peak: Tensor, temperature: Tensor) -> Tensor:
    """Σ e^((logit - peak) / temperature) per row of [rows, vocabulary]; `peak` and `temperature` are [rows].

    Never less than LEAST_WEIGHT, so that a row of -inf alone can be divided by it.
    """
    sums = logits.new_empty(len(logits))
    for part in _blocks(logits):
        depth = _depth(logits[part], peak[part]).div_(temperature[part, None])
        sums[part] = stable_sum(depth.clamp_(min=MIN_EXPONENT).exp_())
    return sums.clamp_(min=MIN_WEIGHT)


def total_variation(logits: Tensor, before: Tensor, after: Tensor) -> Tensor:
    """½ Σ |p' - p| per row, where p and p' are the distributions of the logits at the temperatures `before` and `after`
    [rows].

    A row of -inf alone has neither, and 0.
    """
    distance = logits.new_empty(len(logits))
    for part in _blocks(logits):
        highest = logits[part].amax(dim=-1)
        depth = _depth(logits[part], torch.where(highest == -torch.inf, 0.0, highest))
        first = _probabilities(depth / before[part, None])
        second = _probabilities(depth.div_(after[part, None]))
        distance[part] = 0.5 * stable_sum(second.sub_(first).abs_())
    return distance


def stable_sum(values: Tensor) -> Tensor:
    """The sum over the last dimension of [rows, n], on a CPU in an order that depends on n alone."""
    width = values.shape[1]
    whole = width - width % CHUNK
    total = values[:, whole:].sum(dim=-1)
    if whole:
        total = total + values[:, :whole].unflatten(1, (whole // CHUNK, CHUNK)).sum(dim=-1).sum(dim=-1)
    return total


def _depth(logits: Tensor, peak: Tensor) -> Tensor:
    """Each logit less the row's peak, stored row by row however the logits are, as the order of sums follows what is
    stored."""
    return torch.sub(logits, peak[:, None], out=logits.new_empty(logits.shape))


def _probabilities(depth: Tensor) -> Tensor:
    """From logits less their peak, in place. (Over many tokens torch.softmax is ten times less exact on a CPU.)"""
    weight = depth.clamp_(min=MIN_EXPONENT).exp_()
    return weight.div_(stable_sum(weight)[:, None])


def _blocks(logits: Tensor) -> Iterator[slice]:
    rows, vocabulary = logits.shape
    size = max(1, (BLOCK_ELEMENTS if logits.device.type == "cpu" else DEVICE_ELEMENTS) // vocabulary)
    return (slice(begin, begin + size) for begin in range(0, rows, size))
