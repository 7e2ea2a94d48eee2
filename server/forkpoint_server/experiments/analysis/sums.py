"""The input of the analysis: sums per unit, units per stratum, and the purpose of each metric."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Direction = Literal["higher", "lower", "neither"]
Role = Literal["decision", "guardrail", "information"]

MAX_REQUESTS = 2.0**53
"""Of a unit: a float cannot count further."""


@dataclass(frozen=True)
class Sums:
    """One metric in one arm: one entry per unit with at least one value, or per unit and period.

    A period is a time in which no share or status of an arm changed. With periods, arms are compared within each, and
    drift between periods does not enter the difference. Raises ValueError for columns of different lengths.
    """

    requests: NDArray[np.float64]  # [entries] how many of the unit's requests have a value
    sums: NDArray[np.float64]  # [entries] the sum of these values
    units: NDArray[np.int64] | None = None  # [entries] any numbers; None: each entry is another unit
    periods: NDArray[np.int64] | None = None  # [entries] the same numbers in all arms; None: one period

    def __post_init__(self) -> None:
        shapes = [column.shape for column in (self.requests, self.sums, self.units, self.periods) if column is not None]
        if any(len(shape) != 1 or shape != shapes[0] for shape in shapes):
            raise ValueError(
                f"requests, sums, units and periods are one list each, of equal length, not of shapes {shapes}"
            )

    @cached_property
    def usable(self) -> NDArray[np.bool_]:
        """[entries] False where the sum is not finite, or where requests are 0 or not a valid count."""
        with np.errstate(invalid="ignore"):
            usable: NDArray[np.bool_] = np.isfinite(self.sums) & (self.requests > 0) & (self.requests < MAX_REQUESTS)
            return usable

    @property
    def broken(self) -> int:
        """The number of impossible entries: a number that is not finite, or values without requests."""
        return int(np.sum(~self.usable & ~((self.requests == 0) & (self.sums == 0))))


NONE = Sums(np.empty(0), np.empty(0))
"""No values."""


@dataclass(frozen=True)
class Arm:
    """The values of one arm, metric -> sums. A metric that is missing has no values yet."""

    name: str
    metrics: Mapping[str, Sums]  # of all assigned requests (intention to treat)
    triggered: Mapping[str, Sums]  # only of requests in which this arm's policy could have acted
    control_triggered: Mapping[str, Sums]  # the same of the control arm, for this arm's policy; empty for the control
    control_observed: Mapping[str, Sums] | None = None  # of the control's requests that show this; None: all of them


@dataclass(frozen=True)
class Stratum:
    """Units that were assigned by the same weights, so that chance alone decides how many each arm has.

    A returning unit is in one stratum only. After a raise, the units whose points lie in the added parts form a stratum
    of their own, with the added weights: frequent users of the older parts were seen before.
    """

    weights: Mapping[str, float]  # arm -> share of all units
    units: Mapping[str, int]  # arm -> number of units


@dataclass(frozen=True)
class Metric:
    """The purpose of a metric. Raises ValueError for a guardrail without a direction, and for an invalid margin."""

    name: str
    direction: Direction  # which is better
    role: Role
    margin: float = 0.0  # in the metric's own unit; a guardrail is breached when harm of more than this is certain

    def __post_init__(self) -> None:
        if self.role == "guardrail" and self.direction == "neither":
            raise ValueError(f"the guardrail {self.name!r} needs a direction, 'higher' or 'lower': which one is better")
        if not (math.isfinite(self.margin) and self.margin >= 0):
            raise ValueError(f"the margin of {self.name!r} is {self.margin}, and must be a number of at least 0")

    @property
    def harm(self) -> float:
        """The sign that turns a difference into harm: positive is worse."""
        return -1.0 if self.direction == "higher" else 1.0
