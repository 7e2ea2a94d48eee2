"""Which arm a unit belongs to: a public hash maps units into [0, 1), and arms own parts of it that they never give up.

The point of a unit is the first eight bytes of SHA-256(salt, a zero byte, unit), in UTF-8, read as a big-endian number
and divided by 2 ** 64. docs/experiments.md publishes test vectors.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence

from forkpoint_server.store.definitions import Interval

LAST_POINT = 1 - 2**-53
"""The largest number below 1: the hash's last 2 ** 10 values would be rounded to 1."""
DIGITS = 12
"""Weights are decimals of at most this many digits: 0.1 + 0.2 must equal 0.3, so that arms can fill [0, 1) exactly."""

NEGLIGIBLE = 1e-9
"""A share of all units too small to matter: six arms of a sixth, rounded, do not quite fit."""

Space = Mapping[str, tuple[Interval, ...]]
"""arm -> the intervals that it owns, in the order of the arms."""


def hash_of(salt: str, unit: str) -> int:
    """The first eight bytes of the unit's salted hash, in 0 .. 2 ** 64 - 1."""
    return int.from_bytes(hashlib.sha256(f"{salt}\0{unit}".encode(errors="surrogatepass")).digest()[:8], "big")


def point_of(hashed: int) -> float:
    """The point of a hash in [0, 1)."""
    return min(hashed / 2**64, LAST_POINT)


def salt_of(experiment: str, salt: str) -> str:
    """The salt of an experiment's hash. A layer's name has no colon, so its hash is never an experiment's."""
    return f"{experiment}:{salt}"


def weight_of(intervals: Iterable[Interval]) -> float:
    """The share of all units that intervals hold."""
    return round(sum(interval.high - interval.low for interval in intervals), DIGITS)


def lay_out(weights: Mapping[str, float], epoch: int = 0) -> Space:
    """Place arms side by side, starting at 0. Raises ValueError when they do not fit into [0, 1)."""
    return raised(dict.fromkeys(weights, ()), weights, epoch)


def raised(space: Space, weights: Mapping[str, float], epoch: int) -> Space:
    """Raise arms to these weights with unowned parts, lowest first; no arm loses anything.

    Raises ValueError for a weight below what an arm owns, and when too little is left.
    """
    owned = {arm: list(intervals) for arm, intervals in space.items()}
    free = _free(space)
    for arm, weight in weights.items():
        has = weight_of(owned[arm])
        missing = round(weight - has, DIGITS)
        if missing < -NEGLIGIBLE:
            raise ValueError(
                f"{arm!r} has {has:g} of all units and keeps them: a weight can only be raised, so that no unit "
                "changes its arm; pause the arm to give its units nothing"
            )
        while missing > NEGLIGIBLE:
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
    """The parts of [0, 1) that no arm owns, from low to high."""
    free, reached = [], 0.0
    for interval in sorted(interval for intervals in space.values() for interval in intervals):
        if interval.low > reached:
            free.append((reached, interval.low))
        reached = interval.high
    return [*free, (reached, 1.0)] if reached < 1 else free


def find(space: Space, point: float) -> tuple[str, Interval] | None:
    """The arm that owns a point, with the interval around the point; None for an unowned point."""
    for arm, intervals in space.items():
        for interval in intervals:
            if interval.low <= point < interval.high:
                return arm, interval
    return None


def inside(traffic: Sequence[float], layer: str, unit: str) -> bool:
    """Whether a unit lies in this range of its layer's hash. The whole range needs no hash."""
    low, high = traffic
    return (low <= 0 and high >= 1) or low <= point_of(hash_of(layer, unit)) < high
