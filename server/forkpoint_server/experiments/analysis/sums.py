"""What an experiment has seen, as its analysis takes it: sums per unit, units per epoch, and what each metric is for."""

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
"""Of a unit: beyond it a float is no count."""


@dataclass(frozen=True)
class Sums:
    """One metric in one arm, one entry per unit of that arm with at least one value, or per unit and period.

    Where shares or statuses of arms have changed, an entry is of one unit in one period of unchanged ones: arms are then compared
    within each period, and what drifts between periods stays out of the difference. Raises ValueError for unequal lengths.
    """

    requests: NDArray[np.float64]  # [entries] how many of the unit's requests have a value
    sums: NDArray[np.float64]  # [entries] the sum of these values
    units: NDArray[np.int64] | None = (
        None  # [entries] which unit it is of, any numbers; None: each entry is another unit
    )
    periods: NDArray[np.int64] | None = (
        None  # [entries] which period the requests came in, the same numbers in all arms; None: one
    )

    def __post_init__(self) -> None:
        given = [column.shape for column in (self.requests, self.sums, self.units, self.periods) if column is not None]
        if any(len(shape) != 1 or shape != given[0] for shape in given):
            raise ValueError(
                f"requests, sums, units and periods are one list each, of equal length, not of shapes {given}"
            )

    @cached_property
    def usable(self) -> NDArray[np.bool_]:
        """[entries] False where a sum is not finite, or where requests are none or no count."""
        with np.errstate(invalid="ignore"):
            usable: NDArray[np.bool_] = np.isfinite(self.sums) & (self.requests > 0) & (self.requests < MAX_REQUESTS)
            return usable

    @property
    def broken(self) -> int:
        """How many entries cannot be true: a number that is not finite, or values without requests."""
        return int(np.sum(~self.usable & ~((self.requests == 0) & (self.sums == 0))))


NONE = Sums(np.empty(0), np.empty(0))
"""No values."""


@dataclass(frozen=True)
class Arm:
    """What came of the requests of one arm; a metric that is missing has no values yet."""

    name: str
    metrics: Mapping[str, Sums]  # all assigned requests (intention to treat)
    triggered: Mapping[str, Sums]  # only requests in which this comparison's policy could have acted
    control_triggered: Mapping[
        str, Sums
    ]  # the same of the control arm, for this arm's policy (empty for the control itself)
    control_watched: Mapping[str, Sums] | None = (
        None  # the control's requests of which that is known; None: all of them
    )


@dataclass(frozen=True)
class Stratum:
    """Units that were shared out by the same weights, so that chance alone says how many came to each arm.

    Units that return are in one epoch only, by the weights that they were shared out by. After a raise these are the weights that
    it added, for the units whose point lies in what it added: frequent users of the older share were seen before.
    """

    weights: Mapping[str, float]  # arm -> share of all units
    units: Mapping[str, int]  # arm -> units seen


@dataclass(frozen=True)
class Metric:
    """What a metric is for. Raises ValueError for a guardrail that does not say which direction is harm, and for a wrong margin."""

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
