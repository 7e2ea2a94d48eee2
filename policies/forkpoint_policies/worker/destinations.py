"""Where the record of a step goes, and how much of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .request import Wanted
from .sampled_from import ScoredRows


@dataclass(frozen=True)
class Destinations:
    """The addresses of a record's rows, by the number in the rows' column."""

    addresses: Sequence[str]
    wanted: Wanted
    scored: ScoredRows | None = None
