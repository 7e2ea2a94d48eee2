"""What a distribution says about itself: entropy, varentropy and the top probability, from raw logits.

One sweep gathers three moments of d = logit - max: S0 = Σ e^d, S1 = Σ d e^d, S2 = Σ d² e^d. Then, as ln p = d - ln S0,
H = ln S0 - S1/S0, varentropy = S2/S0 - (S1/S0)², and the top probability is 1/S0. All in nats.

Sums are taken in an order that does not depend on how many rows there are, so that a row gets the same bits alone and in a batch.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

CHUNK = 1024
BLOCK_ELEMENTS = 1 << 18  # a block of rows that stays in a core's second-level cache, with its two work buffers
LOWEST_EXPONENT = -87.0  # e^-87 is the smallest normal float32; less adds nothing and is slow


@dataclass(frozen=True)
class Signals:
    """Per row, float32 unless said otherwise. `total` is S0, relative to `peak`; `possible` counts logits above -inf."""

    peak: Tensor
    total: Tensor
    entropy: Tensor
    varentropy: Tensor
    top_probability: Tensor
    possible: Tensor


def measure(logits: Tensor) -> Signals:
    """The signals of [rows, vocabulary] float32 logits. A row of -inf alone is taken as certain, with `possible` 0."""
    rows, vocabulary = logits.shape
    peak = logits.amax(dim=-1)
    peak = torch.where(peak == -torch.inf, 0.0, peak)
    moments = logits.new_empty(3, rows)
    possible = logits.new_empty(rows)
    block = max(1, BLOCK_ELEMENTS // vocabulary)
    for begin in range(0, rows, block):
        part = slice(begin, begin + block)
        depth = logits[part] - peak[part, None]
        weight = torch.empty_like(depth)
        possible[part] = stable_sum(torch.gt(depth, -torch.inf, out=weight))  # ones and zeros as floats: a sum of booleans is slow
        depth.clamp_(min=LOWEST_EXPONENT)
        torch.exp(depth, out=weight)
        moments[0, part] = stable_sum(weight)
        weight.mul_(depth)
        moments[1, part] = stable_sum(weight)
        moments[2, part] = stable_sum(weight.mul_(depth))
    total = torch.where(possible > 0, moments[0], 1.0)
    mean = torch.where(possible > 0, moments[1], 0.0) / total
    square = torch.where(possible > 0, moments[2], 0.0) / total
    return Signals(
        peak=peak,
        total=total,
        entropy=(total.log() - mean).clamp_(min=0.0),
        varentropy=(square - mean * mean).clamp_(min=0.0),
        top_probability=1.0 / total,
        possible=possible,
    )


def stable_sum(values: Tensor) -> Tensor:
    """The sum over the last dimension of [rows, n], in an order that depends on n alone."""
    width = values.shape[1]
    whole = width - width % CHUNK
    total = values[:, whole:].sum(dim=-1)
    if whole:
        total = total + values[:, :whole].unflatten(1, (whole // CHUNK, CHUNK)).sum(dim=-1).sum(dim=-1)
    return total


def weight_at(logits: Tensor, peak: Tensor, temperature: Tensor) -> Tensor:
    """Σ e^((logit - peak) / temperature) per row of [rows, vocabulary]; `peak` and `temperature` are [rows]."""
    rows, vocabulary = logits.shape
    sums = logits.new_empty(rows)
    block = max(1, BLOCK_ELEMENTS // vocabulary)
    for begin in range(0, rows, block):
        part = slice(begin, begin + block)
        depth = (logits[part] - peak[part, None]) / temperature[part, None]
        sums[part] = stable_sum(depth.clamp_(min=LOWEST_EXPONENT).exp_())
    return sums


def total_variation(logits: Tensor, before: Tensor, after: Tensor) -> Tensor:
    """½ Σ |p' - p| per row, where p and p' are the distributions of the logits at the temperatures `before` and `after` [rows].

    A row of -inf alone has neither, and 0.
    """
    rows, vocabulary = logits.shape
    distance = logits.new_empty(rows)
    block = max(1, BLOCK_ELEMENTS // vocabulary)
    for begin in range(0, rows, block):
        part = slice(begin, begin + block)
        first = torch.softmax(logits[part] / before[part, None], dim=-1)
        second = torch.softmax(logits[part] / after[part, None], dim=-1)
        distance[part] = (0.5 * stable_sum(second.sub_(first).abs_())).nan_to_num_(nan=0.0)
    return distance
