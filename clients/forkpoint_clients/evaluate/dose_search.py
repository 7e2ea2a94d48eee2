"""The strength at which a placebo has its policy's dose: searched, one measurement after another."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping

from forkpoint_policies.spec import MAX_STRENGTH_NATS

FIRST_STRENGTH_NATS = 1.0
MIN_STRENGTH_NATS = 0.01
MAX_STEP = 6.0
"""The largest factor between two strengths that are tried, before one is too weak and one too strong."""

SMALLEST_DOSE = 1e-9
MAX_TRIALS = 7
CLOSE = 0.1
"""The relative difference between two doses at which the search ends."""


async def search(measure: Callable[[float], Awaitable[float | None]], dose: float) -> dict[float, float]:
    """The strengths that were tried, in nats, and the dose of each, until one is close to `dose`.

    `measure` returns the dose at a strength, or None if the server reports none; the search then ends.
    """
    tried: dict[float, float] = {}
    strength = FIRST_STRENGTH_NATS
    while len(tried) < MAX_TRIALS and strength not in tried:
        found = await measure(strength)
        if found is None:
            break
        tried[strength] = found
        if abs(found / dose - 1) <= CLOSE:
            break
        strength = next_strength(tried, dose)
    return tried


def closest(tried: Mapping[float, float], dose: float) -> float | None:
    """The strength, of those that were tried, whose dose is the closest; None if none was."""
    return min(tried, key=lambda strength: distance(tried[strength], dose), default=None)


def next_strength(tried: Mapping[float, float], dose: float) -> float:
    """The strength to try next, in nats, from the doses of those that were: the dose rises with the strength.

    Between one that is too weak and one that is too strong by interpolation of the logarithms, else beyond the nearest.
    """
    weak = max((strength for strength, found in tried.items() if found < dose), default=None)
    strong = min((strength for strength, found in tried.items() if found >= dose), default=None)
    if weak is None or strong is None:
        nearest = weak if strong is None else strong
        assert nearest is not None
        step = min(max(dose / max(tried[nearest], SMALLEST_DOSE), 1 / MAX_STEP), MAX_STEP)
        return _rounded(min(max(nearest * step, MIN_STRENGTH_NATS), MAX_STRENGTH_NATS))
    low, high = math.log(weak), math.log(strong)
    below, above = math.log(max(tried[weak], SMALLEST_DOSE)), math.log(tried[strong])
    share = (math.log(dose) - below) / (above - below) if weak < strong and above > below else 0.5
    return _rounded(math.exp(low + min(max(share, 0.1), 0.9) * (high - low)))


def distance(dose: float, other: float) -> float:
    """How far two doses are apart, as a factor's logarithm."""
    return abs(math.log(max(dose, SMALLEST_DOSE) / other))


def _rounded(strength_nats: float) -> float:
    """To three digits, so that it can be copied."""
    return float(f"{strength_nats:.3g}")
