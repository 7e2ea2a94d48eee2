"""Which arm a unit falls into: by a hash that anyone can compute, into parts of [0, 1) that arms own and never give up.

The point of a unit is the first eight bytes of SHA-256(salt, a zero byte, unit), in UTF-8, as a big-endian number over 2 ** 64.
docs/experiments.md publishes test vectors.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

LAST_POINT = 1 - 2**-53
"""The largest number below 1: the hash's last 2 ** 10 values would be rounded to 1."""
DIGITS = 12
"""Weights are decimals of at most so many digits: 0.1 + 0.2 is to be 0.3, so that what one arm leaves another one can take."""

NOTHING = 1e-9
"""A share of all units too small to matter: six arms of a sixth, rounded, do not quite fit."""


@dataclass(frozen=True)
class Interval:
    """A part of [0, 1), without its upper end, and the number of the epoch in which its arm was given it."""

    low: float
    high: float
    since: int


Space = Mapping[str, tuple[Interval, ...]]
"""What each arm owns, in the arms' order."""


def hash_of(salt: str, unit: str) -> int:
    """The first eight bytes of the unit's salted hash, in 0 .. 2 ** 64 - 1."""
    return int.from_bytes(hashlib.sha256(f"{salt}\0{unit}".encode(errors="surrogatepass")).digest()[:8], "big")


def point_of(hashed: int) -> float:
    """Where a hash lies in [0, 1)."""
    return min(hashed / 2**64, LAST_POINT)


def salt_of(experiment: str, salt: str) -> str:
    """The salt of an experiment's hash. No layer has a colon in its name, so no layer shares its hash with an experiment."""
    return f"{experiment}:{salt}"


def slice_of(seconds: float, slice_seconds: float) -> str:
    """The unit of an experiment that switches all traffic back and forth: the number of the time slice since 1970."""
    return str(int(seconds // slice_seconds))


def weight_of(intervals: Iterable[Interval]) -> float:
    """The share of all units that intervals hold."""
    return round(sum(one.high - one.low for one in intervals), DIGITS)


def lay_out(weights: Mapping[str, float], epoch: int = 0) -> Space:
    """Arms side by side from 0. Raises ValueError when they do not fit into [0, 1)."""
    return raised(dict.fromkeys(weights, ()), weights, epoch)


def raised(space: Space, weights: Mapping[str, float], epoch: int) -> Space:
    """Give arms more, up to these weights, of what nobody owns, from the lowest end; nobody loses anything.

    Raises ValueError for a weight below what an arm has, and when there is not enough left.
    """
    owned = {arm: list(intervals) for arm, intervals in space.items()}
    free = _free(space)
    for arm, weight in weights.items():
        has = weight_of(owned[arm])
        missing = round(weight - has, DIGITS)
        if missing < -NOTHING:
            raise ValueError(
                f"{arm!r} has {has:g} of all units and keeps them: a weight can only be raised, so that no unit changes its arm; "
                "pause the arm to give its units nothing"
            )
        while missing > NOTHING:
            if not free:
                raise ValueError(
                    f"the weights of all arms sum to more than 1: there is no {missing:g} left for {arm!r}"
                )
            low, high = free.pop(0)
            end = min(high, round(low + missing, DIGITS))
            owned[arm].append(Interval(low, end, epoch))
            missing = round(missing - (end - low), DIGITS)
            if end < high:
                free.insert(0, (end, high))
    return {arm: tuple(intervals) for arm, intervals in owned.items()}


def _free(space: Space) -> list[tuple[float, float]]:
    """What no arm owns, from low to high."""
    found, reached = [], 0.0
    for one in sorted((one for intervals in space.values() for one in intervals), key=lambda one: one.low):
        if one.low > reached:
            found.append((reached, one.low))
        reached = one.high
    return [*found, (reached, 1.0)] if reached < 1 else found


def find(space: Space, point: float) -> tuple[str, Interval] | None:
    """The arm that owns a point, with the interval that the point lies in; None for a point that nobody owns."""
    for arm, intervals in space.items():
        for one in intervals:
            if one.low <= point < one.high:
                return arm, one
    return None


def inside(traffic: Sequence[float], layer: str, unit: str) -> bool:
    """Whether a unit is in this range of its layer's hash: the whole range needs no hash."""
    low, high = traffic
    return (low <= 0 and high >= 1) or low <= point_of(hash_of(layer, unit)) < high


def unit_of(unit: str, slice_seconds: float | None, body: Mapping[str, Any], headers: Mapping[str, str]) -> str | None:
    """The unit of a request, or None when it does not say: the field `user` (`metadata.user_id` of Anthropic's messages), a
    header's value, the time slice, or the request itself, which is a fresh one each time."""
    if unit == "request":
        return secrets.token_hex(16)
    if unit == "slice":
        return slice_of(time.time(), slice_seconds or 1.0)
    if unit == "user":
        metadata = body.get("metadata")
        said = body.get("user") or (metadata.get("user_id") if isinstance(metadata, Mapping) else None)
        return said if isinstance(said, str) and said else None
    return headers.get(unit.lower()) or None
