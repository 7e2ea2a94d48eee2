"""The signals on a CPU, compiled by numba when this module is imported: each logit is read once.

LLVM makes vector code of the loops because sums may be reordered (`reassoc`) and the exponential is arithmetic, not a
call. Blocks are summed in float32 and then in float64. A row is always one thread's, so its bits do not depend on the
rows around it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba  # type: ignore[import-untyped]
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from forkpoint_policies.kernel.row_threads import num_parts, run_parts

from .definition import MIN_EXPONENT, MIN_WEIGHT, Signals

BLOCK = 2048

Floats = NDArray[np.float32]
Function = TypeVar("Function", bound=Callable[..., object])


def _compiled(signature: str, *flags: str) -> Callable[[Function], Function]:
    """To machine code that runs without the interpreter's lock; `flags` say what LLVM may do to floats."""
    return cast(
        "Callable[[Function], Function]",
        numba.njit(signature, fastmath={"nsz", *flags}, nogil=True, error_model="numpy"),
    )


LOWEST = np.float32(MIN_EXPONENT)
HIGHEST = np.float32(88.0)  # e^88 is about the largest float32
FAR = np.float32(2.0)  # nats by which the highest logit may exceed the reference before sums lose digits
NOTHING = np.float32(-np.inf)
ZERO, ONE = np.float32(0.0), np.float32(1.0)

# e^x = 2^k e^r with k = round(x / ln 2) and |r| ≤ ½ ln 2; ln 2 in two parts, so that r is exact; e^r = 1 + r + r² P(r),
# with the coefficients that Cephes' expf gives to P (https://www.netlib.org/cephes/). Correct to 1e-7 of the value.
TO_TWOS = np.float32(1.4426950408889634)
LN2_HIGH, LN2_LOW = np.float32(0.693359375), np.float32(-2.12194440e-4)
P5, P4, P3 = np.float32(1.9875691500e-4), np.float32(1.3981999507e-3), np.float32(8.3334519073e-3)
P2, P1, P0 = np.float32(4.1665795894e-2), np.float32(1.6666665459e-1), np.float32(5.0000001201e-1)
ROUNDER = np.float32(1.5 * 2**23)  # added to a small float, it leaves the nearest integer in the low bits
ROUNDER_BITS = ROUNDER.view(np.int32)
BIAS, MANTISSA_BITS = np.int32(127), np.int32(23)
SIGN, MAGNITUDE, MIN_INTEGER = np.int32(31), np.int32(0x7FFFFFFF), np.int32(-(2**31))


@_compiled("float32(float32)", "contract")
def exponential(x: np.float32) -> np.float32:
    """e^x for x from LOWEST to HIGHEST."""
    k = np.int32(np.float32(x * TO_TWOS + ROUNDER).view(np.int32) - ROUNDER_BITS)
    twos = np.float32(k)
    r = (x - twos * LN2_HIGH) - twos * LN2_LOW
    p = ((((P5 * r + P4) * r + P3) * r + P2) * r + P1) * r + P0
    power = np.int32((k + BIAS) << MANTISSA_BITS).view(np.float32)
    return np.float32(((p * r) * r + r + ONE) * power)


@_compiled("float32(float32[::1])")
def _highest(row: Floats) -> np.float32:
    """As integers, with the magnitude of the negative ones turned around, floats keep their order; and those LLVM
    vectorises."""
    bits = row.view(np.int32)
    highest = MIN_INTEGER
    for i in range(bits.size):
        key = np.int32(bits[i] ^ ((bits[i] >> SIGN) & MAGNITUDE))
        highest = max(highest, key)
    return np.int32(highest ^ ((highest >> SIGN) & MAGNITUDE)).view(np.float32)


@_compiled("UniTuple(float32, 4)(float32[::1], float32)", "reassoc", "contract")
def _moments(block: Floats, reference: np.float32) -> tuple[Any, Any, Any, np.float32]:
    """Of the weights relative to a reference near the highest: their sum, first and second moment; and the highest
    logit."""
    s0, s1, s2 = ZERO, ZERO, ZERO
    bits = block.view(np.int32)
    highest = MIN_INTEGER
    for i in range(block.size):
        key = np.int32(bits[i] ^ ((bits[i] >> SIGN) & MAGNITUDE))
        highest = max(highest, key)
        depth = block[i] - reference
        some = depth >= LOWEST
        depth = depth if some else LOWEST
        weight = exponential(depth)  # far above the reference it is nonsense, which is not used
        weight = weight if some else ZERO
        s0 += weight
        s1 += weight * depth
        s2 += weight * depth * depth
    return s0, s1, s2, np.int32(highest ^ ((highest >> SIGN) & MAGNITUDE)).view(np.float32)


@_compiled("void(float32[::1], int64, int64, float32[:, ::1], int64, int64)")
def _measure_rows(logits: Floats, stride: int, vocabulary: int, found: Floats, begin: int, end: int) -> None:
    for r in range(begin, end):
        row = logits[r * stride : r * stride + vocabulary]
        peak, reference, total, first, second = NOTHING, NOTHING, 0.0, 0.0, 0.0
        for at in range(0, vocabulary, BLOCK):
            block = row[at : at + BLOCK]
            if reference == NOTHING:
                moved = _highest(block)
                if moved == NOTHING:
                    continue
                reference = moved
            # each logit is read once, against the highest so far; only where that is far exceeded, once more
            s0, s1, s2, highest = _moments(block, reference)
            if highest > reference + FAR:
                shift = float(reference) - float(
                    highest
                )  # what was summed relative to the old reference, relative to the new
                scale = math.exp(shift)
                second = scale * (second + shift * (2 * first + shift * total))
                first, total, reference = scale * (first + shift * total), scale * total, highest
                s0, s1, s2, highest = _moments(block, reference)
            peak = max(peak, highest)
            total += s0
            first += s1
            second += s2
        if peak > NOTHING:
            shift = float(reference) - float(peak)
            scale = math.exp(shift)
            second = scale * (second + shift * (2 * first + shift * total))
            first, total = scale * (first + shift * total), scale * total
        if peak == NOTHING:
            peak, total = ZERO, 1.0
        mean = first / total
        found[0, r] = peak
        found[1, r] = total
        found[2, r] = max(math.log(total) - mean, 0.0)
        found[3, r] = max(second / total - mean * mean, 0.0)
        found[4, r] = 1.0 / total


@_compiled("float32(float32[::1], float32, float32)", "reassoc")
def _block_weight(block: Floats, peak: np.float32, coldness: np.float32) -> np.float32:
    total = ZERO
    for i in range(block.size):
        depth = (block[i] - peak) * coldness
        some = depth >= LOWEST
        depth = depth if some else LOWEST
        weight = exponential(min(depth, HIGHEST))
        total += weight if some else ZERO
    return total


@_compiled("float64(float32[::1], float32, float32)")
def _weight(row: Floats, peak: np.float32, coldness: np.float32) -> float:
    total = 0.0
    for at in range(0, row.size, BLOCK):
        total += float(_block_weight(row[at : at + BLOCK], peak, coldness))
    return max(total, MIN_WEIGHT)


@_compiled("void(float32[::1], int64, int64, float32[::1], float32[::1], float32[::1], int64, int64)")
def _weigh_rows(
    logits: Floats, stride: int, vocabulary: int, peak: Floats, temperature: Floats, sums: Floats, begin: int, end: int
) -> None:
    for r in range(begin, end):
        row = logits[r * stride : r * stride + vocabulary]
        sums[r] = _weight(row, peak[r], ONE / temperature[r])


@_compiled("float32(float32[::1], float32, float32, float32, float32, float32)", "reassoc")
def _block_distance(
    block: Floats, peak: np.float32, cold: np.float32, share: np.float32, new_cold: np.float32, new_share: np.float32
) -> np.float32:
    total = ZERO
    for i in range(block.size):
        depth, new_depth = (block[i] - peak) * cold, (block[i] - peak) * new_cold
        old = exponential(max(depth, LOWEST)) * share
        new = exponential(max(new_depth, LOWEST)) * new_share
        total += abs((new if new_depth >= LOWEST else ZERO) - (old if depth >= LOWEST else ZERO))
    return total


@_compiled("void(float32[::1], int64, int64, float32[::1], float32[::1], float32[::1], int64, int64)")
def _vary_rows(
    logits: Floats, stride: int, vocabulary: int, before: Floats, after: Floats, found: Floats, begin: int, end: int
) -> None:
    for r in range(begin, end):
        row = logits[r * stride : r * stride + vocabulary]
        peak = _highest(row)
        total = 0.0
        if peak > NOTHING:
            cold, new_cold = ONE / before[r], ONE / after[r]
            share = np.float32(1.0 / _weight(row, peak, cold))
            new_share = np.float32(1.0 / _weight(row, peak, new_cold))
            for at in range(0, vocabulary, BLOCK):
                total += float(_block_distance(row[at : at + BLOCK], peak, cold, share, new_cold, new_share))
        found[r] = 0.5 * total


def measure(logits: Tensor) -> Signals:
    """The signals of [rows, vocabulary] float32 logits. A row of -inf alone is taken as certain."""
    rows, vocabulary = logits.shape
    flat, stride = _flat(logits)
    found = torch.empty(5, rows)
    into = found.numpy()
    _over_rows(rows, vocabulary, lambda begin, end: _measure_rows(flat, stride, vocabulary, into, begin, end))
    return Signals(*found.unbind(0))


def weight_at(logits: Tensor, peak: Tensor, temperature: Tensor) -> Tensor:
    """Σ e^((logit - peak) / temperature) per row of [rows, vocabulary]; `peak` and `temperature` are [rows].

    Never less than LEAST_WEIGHT, so that a row of -inf alone can be divided by it.
    """
    rows, vocabulary = logits.shape
    flat, stride = _flat(logits)
    sums = torch.empty(rows)
    given = peak.contiguous().numpy(), temperature.contiguous().numpy(), sums.numpy()
    _over_rows(rows, vocabulary, lambda begin, end: _weigh_rows(flat, stride, vocabulary, *given, begin, end))
    return sums


def total_variation(logits: Tensor, before: Tensor, after: Tensor) -> Tensor:
    """½ Σ |p' - p| per row, where p and p' are the distributions of the logits at the temperatures `before` and `after`
    [rows].

    A row of -inf alone has neither, and 0.
    """
    rows, vocabulary = logits.shape
    flat, stride = _flat(logits)
    found = torch.empty(rows)
    given = before.contiguous().numpy(), after.contiguous().numpy(), found.numpy()
    _over_rows(rows, vocabulary, lambda begin, end: _vary_rows(flat, stride, vocabulary, *given, begin, end))
    return found


def _flat(logits: Tensor) -> tuple[Floats, int]:
    """The logits' memory as one array, and how far apart in it rows begin; copied only if a row is not in one piece."""
    rows, vocabulary = logits.shape
    if rows * vocabulary and (logits.stride(1) != 1 or logits.stride(0) < 0):
        logits = logits.contiguous()
    stride = logits.stride(0)
    size = (rows - 1) * stride + vocabulary if rows else 0
    return logits.as_strided((size,), (1,)).numpy(), stride


def _over_rows(rows: int, vocabulary: int, sweep: Callable[[int, int], None]) -> None:
    """`sweep` all rows, on as many of torch's threads as are worth waking."""
    parts = num_parts(rows, vocabulary)
    run_parts([rows * part // parts for part in range(parts + 1)], sweep)
