"""Numbers of a rule: constants, schedules, functions of the entropy, lengths in tokens."""

from __future__ import annotations

import math

from forkpoint_policies.spec import (
    EntropyScale,
    EntropyTemperature,
    NormalizedEntropyTemperature,
    ReasoningLengths,
    Schedule,
)

from .compilation import Compilation
from .program import Curve, Shape
from .served_model import DEFAULT_REASONING_TOKENS


def curve(
    build: Compilation, value: float | Schedule | EntropyTemperature | NormalizedEntropyTemperature | EntropyScale
) -> Curve:
    """A number that may depend on the position or the entropy."""
    if isinstance(value, EntropyTemperature):
        return Curve(Shape.ENTROPY, value.scale, value.base, value.exponent)
    if isinstance(value, NormalizedEntropyTemperature | EntropyScale):
        largest = math.log(max(2, build.target.vocabulary.size))
        return Curve(Shape.POWER, value.low, (value.high - value.low) / largest**value.exponent, value.exponent)
    if isinstance(value, Schedule) and value.shape == "linear":
        over = tokens_of(build, value.over or 1)
        return Curve(Shape.LINEAR, value.start or 0.0, value.end or 0.0, float(over))
    if isinstance(value, Schedule):
        return Curve(Shape.TRIANGULAR, float(value.amplitude or 0.0), float(value.period or 0.0))
    return constant(value)


def tokens_of(build: Compilation, length: int | ReasoningLengths) -> int:
    """A number of tokens; lengths of the reasoning by the served model's calibration."""
    if not isinstance(length, ReasoningLengths):
        return length
    mean = build.target.mean_reasoning_tokens
    if not mean:
        mean = float(DEFAULT_REASONING_TOKENS)
        build.warnings.append(
            f"the mean length of this model's reasoning is not calibrated; {DEFAULT_REASONING_TOKENS} tokens is "
            "used (forkpoint calibrate measures it)"
        )
    return max(1, round(length.reasoning_lengths * mean))


def constant(value: float) -> Curve:
    """The same number everywhere."""
    return Curve(Shape.CONSTANT, float(value))
