"""Numbers that a step computes per row: chance from a request's seed, and curves over positions or entropies."""

from __future__ import annotations

import torch
from torch import Tensor

from forkpoint_policies.compile.program import Shape

MIN_TEMPERATURE = 0.01
_STEPS = ((30, -0x40A7B892E31B1A47), (27, -0x6B2FB644ECCEEE15))  # the finaliser of SplitMix64, as signed 64-bit numbers
_POSITION, _SALT = -0x61C8864680B583EB, 0x5851F42D4C957F2D


def uniform(seed: Tensor, position: Tensor, salt: int | Tensor) -> Tensor:
    """Numbers in [0, 1), float32, that depend on nothing but these; the arguments are int64 and broadcast."""
    salted = (salt + 1) * _SALT
    if isinstance(salted, int):
        salted = (
            salted + 2**63
        ) % 2**64 - 2**63  # as tensors wrap; to make one of it would mean to wait for the device
    mixed = seed + position * _POSITION + salted
    for shift, factor in _STEPS:
        mixed = (mixed ^ _right(mixed, shift)) * factor
    return _right(mixed ^ _right(mixed, 31), 40).float() * 2.0**-24


def _right(values: Tensor, bits: int) -> Tensor:
    """The logical shift; PyTorch's keeps the sign."""
    return (values >> bits) & ((1 << (64 - bits)) - 1)


def evaluate(curve: Tensor, position: Tensor, entropy: Tensor) -> Tensor:
    """Each curve [..., 4] (a program.Curve) evaluated at a position and an entropy in nats that broadcast to [...]."""
    shape, a, b, c = curve.unbind(-1)
    at = position.float()
    linear = a + (b - a) * (at / c).clamp(max=1.0)
    phase = torch.where(b > 0, at / b, 0.0).frac()
    wave = a * (1 - 4 * ((phase + 0.25).frac() - 0.5).abs())
    heat = (a * b ** (c / entropy.clamp(min=1e-6))).clamp(min=MIN_TEMPERATURE)
    values = torch.where(shape == Shape.LINEAR.value, linear, a)
    values = torch.where(shape == Shape.TRIANGULAR.value, wave, values)
    values = torch.where(shape == Shape.POWER.value, a + b * entropy.clamp(min=0.0) ** c, values)
    return torch.where(shape == Shape.ENTROPY.value, heat, values)
