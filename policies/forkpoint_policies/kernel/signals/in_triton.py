"""The signals on a GPU, written in Triton: the logits are read once, and nothing waits for the GPU.

Every row is cut into parts of PART logits, one per program, so that a single row fills a GPU about as well as many do.
A program takes the moments of its part relative to the part's own peak; then one small program per row brings these to
the row's peak:

    S0 = Σ f s0,    S1 = Σ f (s1 + c s0),    S2 = Σ f (s2 + 2 c s1 + c² s0),    with c = part's peak - peak and f = e^c.

How a row is cut depends on the vocabulary alone, and nothing is added atomically: a row gets the same bits in any
batch.
"""

# Triton's decorator and its values have no types; what its constants are called is its custom.
# mypy: disable-error-code="no-untyped-def,untyped-decorator"
# ruff: noqa: N803

from __future__ import annotations

import torch
import triton  # type: ignore[import-untyped]
import triton.language as tl  # type: ignore[import-untyped]
from torch import Tensor

from .definition import MIN_EXPONENT, MIN_WEIGHT, Signals

PART = 4096
WARPS = 8  # per program: 16 logits per thread, read in four loads
LOWEST = tl.constexpr(MIN_EXPONENT)


@triton.jit
def _load_part(logits, stride, vocabulary, parts, SIZE: tl.constexpr):
    """The row and the part of this program, and its logits, -inf beyond the last."""
    row, part = tl.program_id(0) // parts, tl.program_id(0) % parts
    at = part * SIZE + tl.arange(0, SIZE)
    return row, part, tl.load(logits + row.to(tl.int64) * stride + at, mask=at < vocabulary, other=float("-inf"))


@triton.jit
def _measure_parts(logits, found, stride, vocabulary, parts, SIZE: tl.constexpr):
    row, part, values = _load_part(logits, stride, vocabulary, parts, SIZE)
    peak = tl.max(values, 0)
    depth = values - tl.where(peak == float("-inf"), 0.0, peak)
    weight = tl.where(depth >= LOWEST, tl.exp(depth), 0.0)
    depth = tl.maximum(depth, LOWEST)  # -inf times a weight of 0 would be no number
    into = found + (row.to(tl.int64) * parts + part) * 4
    tl.store(into, peak)
    tl.store(into + 1, tl.sum(weight, 0))
    tl.store(into + 2, tl.sum(weight * depth, 0))
    tl.store(into + 3, tl.sum(weight * depth * depth, 0))


@triton.jit
def _join_parts(found, signals, rows, parts, SIZE: tl.constexpr):
    row = tl.program_id(0)
    part = tl.arange(0, SIZE)
    some = part < parts
    begin = found + (row.to(tl.int64) * parts + part) * 4
    peaks = tl.load(begin, mask=some, other=float("-inf"))
    highest = tl.max(peaks, 0)
    certain = highest == float("-inf")
    peak = tl.where(certain, 0.0, highest)
    shift = tl.maximum(peaks - peak, LOWEST).to(tl.float64)
    factor = tl.where(peaks - peak >= LOWEST, tl.exp(shift), 0.0)
    s0 = tl.load(begin + 1, mask=some, other=0.0).to(tl.float64)
    s1 = tl.load(begin + 2, mask=some, other=0.0).to(tl.float64)
    s2 = tl.load(begin + 3, mask=some, other=0.0).to(tl.float64)
    total = tl.where(certain, 1.0, tl.sum(factor * s0, 0))
    mean = tl.sum(factor * (s1 + shift * s0), 0) / total
    square = tl.sum(factor * (s2 + 2.0 * shift * s1 + shift * shift * s0), 0) / total
    tl.store(signals + row, peak)
    tl.store(signals + rows + row, total.to(tl.float32))
    tl.store(signals + 2 * rows + row, tl.maximum(tl.log(total) - mean, 0.0).to(tl.float32))
    tl.store(signals + 3 * rows + row, tl.maximum(square - mean * mean, 0.0).to(tl.float32))
    tl.store(signals + 4 * rows + row, (1.0 / total).to(tl.float32))


@triton.jit
def _weigh_parts(logits, peaks, temperatures, found, stride, vocabulary, parts, SIZE: tl.constexpr):
    row, part, values = _load_part(logits, stride, vocabulary, parts, SIZE)
    depth = (values - tl.load(peaks + row)) / tl.load(temperatures + row)
    weight = tl.where(depth >= LOWEST, tl.exp(depth), 0.0)
    tl.store(found + row.to(tl.int64) * parts + part, tl.sum(weight, 0))


@triton.jit
def _vary_parts(
    logits,
    peaks,
    before,
    after,
    totals,
    new_totals,
    found,
    stride,
    vocabulary,
    parts,
    SIZE: tl.constexpr,
):
    row, part, values = _load_part(logits, stride, vocabulary, parts, SIZE)
    depth = values - tl.load(peaks + row)
    old = tl.exp(depth / tl.load(before + row)) / tl.load(totals + row)
    new = tl.exp(depth / tl.load(after + row)) / tl.load(new_totals + row)
    tl.store(found + row.to(tl.int64) * parts + part, 0.5 * tl.sum(tl.abs(new - old), 0))


@triton.jit
def _read_parts(logits, found, stride, vocabulary, parts, SIZE: tl.constexpr):
    row, part, values = _load_part(logits, stride, vocabulary, parts, SIZE)
    tl.store(found + row.to(tl.int64) * parts + part, tl.max(values, 0))


@triton.jit
def _sum_parts(found, sums, parts, SIZE: tl.constexpr):
    row = tl.program_id(0)
    part = tl.arange(0, SIZE)
    values = tl.load(found + row.to(tl.int64) * parts + part, mask=part < parts, other=0.0)
    tl.store(sums + row, tl.sum(values.to(tl.float64), 0).to(tl.float32))


def measure(logits: Tensor) -> Signals:
    """The signals of [rows, vocabulary] float32 logits. A row of -inf alone is taken as certain."""
    logits, rows, vocabulary, parts = _cut(logits)
    found = logits.new_empty(rows, parts, 4)
    signals = logits.new_empty(5, rows)
    if rows:
        _measure_parts[(rows * parts,)](logits, found, logits.stride(0), vocabulary, parts, SIZE=PART, num_warps=WARPS)
        _join_parts[(rows,)](found, signals, rows, parts, SIZE=triton.next_power_of_2(parts), num_warps=1)
    return Signals(*signals.unbind(0))


def weight_at(logits: Tensor, peak: Tensor, temperature: Tensor) -> Tensor:
    """Σ e^((logit - peak) / temperature) per row of [rows, vocabulary]; `peak` and `temperature` are [rows].

    Never less than LEAST_WEIGHT, so that a row of -inf alone can be divided by it.
    """
    logits, rows, vocabulary, parts = _cut(logits)
    found = logits.new_empty(rows, parts)
    if rows:
        _weigh_parts[(rows * parts,)](
            logits,
            peak.contiguous(),
            temperature.contiguous(),
            found,
            logits.stride(0),
            vocabulary,
            parts,
            SIZE=PART,
            num_warps=WARPS,
        )
    return _summed(found).clamp_(min=MIN_WEIGHT)


def total_variation(logits: Tensor, before: Tensor, after: Tensor) -> Tensor:
    """½ Σ |p' - p| per row, where p and p' are the distributions of the logits at the temperatures `before` and `after`
    [rows].

    A row of -inf alone has neither, and 0. Takes four reads of the logits: their peak, both totals, and the difference.
    """
    logits, rows, vocabulary, parts = _cut(logits)
    before, after = before.contiguous(), after.contiguous()
    highest = logits.amax(dim=-1)
    peak = torch.where(highest == -torch.inf, 0.0, highest)
    total, new_total = weight_at(logits, peak, before), weight_at(logits, peak, after)
    found = logits.new_empty(rows, parts)
    if rows:
        _vary_parts[(rows * parts,)](
            logits,
            peak,
            before,
            after,
            total,
            new_total,
            found,
            logits.stride(0),
            vocabulary,
            parts,
            SIZE=PART,
            num_warps=WARPS,
        )
    return _summed(found)


def read(logits: Tensor) -> Tensor:
    """The peak of each part, [rows, parts]: what one read of the logits takes, to compare `measure` with."""
    logits, rows, vocabulary, parts = _cut(logits)
    found = logits.new_empty(rows, parts)
    _read_parts[(rows * parts,)](logits, found, logits.stride(0), vocabulary, parts, SIZE=PART, num_warps=WARPS)
    return found


def _cut(logits: Tensor) -> tuple[Tensor, int, int, int]:
    """The logits with each row in one piece; their number of rows, vocabulary, and parts per row."""
    rows, vocabulary = logits.shape
    return (logits if logits.stride(1) == 1 else logits.contiguous()), rows, vocabulary, triton.cdiv(vocabulary, PART)


def _summed(found: Tensor) -> Tensor:
    """The sums of [rows, parts], in an order that depends on the number of parts alone."""
    rows, parts = found.shape
    sums = found.new_empty(rows)
    if rows:
        _sum_parts[(rows,)](found, sums, parts, SIZE=triton.next_power_of_2(parts), num_warps=1)
    return sums
