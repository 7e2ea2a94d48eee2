"""Where the record of a step goes, and how much of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from .request import Wanted
from .sampled_from import ScoredRows


class Address(NamedTuple):
    """A socket of a server. `sums_above`: its rows are summed, and this is the fork threshold, in nats."""

    endpoint: str
    sums_above: float | None = None


@dataclass(frozen=True)
class Destinations:
    """The addresses of a record's rows, by the number in the rows' column."""

    addresses: Sequence[Address]
    wanted: Wanted
    scored: ScoredRows | None = None
