"""A verdict on a claim that is never more certain than the interval of the figure that it rests on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from forkpoint_clients.evaluate import stats
from forkpoint_clients.evaluate.stats import Estimate

Word = Literal["reproduced", "not reproduced", "undecided"]
MIN_QUESTIONS = 10
"""Fewer decide nothing: what intervals assume of many clusters does not hold of so few."""

Form = Literal["percent", "points", "count", "change", "nats", "number"]
"""How a figure is written: a function of `wording`."""


@dataclass(frozen=True)
class Verdict:
    """`needed`: about how many questions would decide it, if the figure stays where it is; None where that cannot be told."""

    word: Word
    needed: int | None = None

    def __str__(self) -> str:
        if self.word != "undecided":
            return self.word
        return "undecided" if self.needed is None else f"undecided (n needed: {self.needed:,})"


@dataclass(frozen=True)
class Criterion:
    """A figure that a claim says to be on one side of `bound`, from so many questions; its interval covers 1 - `alpha`.

    `each` is how many questions are asked for one that the figure is of, where it is not of all: what is needed counts those.
    """

    what: str
    estimate: Estimate
    claimed: Literal["above", "below"]
    bound: float
    questions: int
    form: Form
    alpha: float = stats.ALPHA
    each: float = 1.0

    @property
    def verdict(self) -> Verdict:
        """Reproduced where the whole interval is on the claimed side of the bound, not so where all of it is on the other.

        An interval without a width tells that nothing varied among few questions, and decides nothing.
        """
        one = self.estimate
        if self.questions < MIN_QUESTIONS:
            return self._undecided(max(MIN_QUESTIONS, self._needed() or 0))
        if math.isnan(one.low) or math.isnan(one.high) or one.high - one.low <= stats.ROUNDING:
            return Verdict("undecided")
        if one.low > self.bound:
            return Verdict("reproduced" if self.claimed == "above" else "not reproduced")
        if one.high < self.bound:
            return Verdict("reproduced" if self.claimed == "below" else "not reproduced")
        needed = self._needed()
        return self._undecided(None if needed is None else max(needed, self.questions + 1))

    def _undecided(self, needed: int | None) -> Verdict:
        return Verdict("undecided", None if needed is None else math.ceil(needed * self.each))

    def _needed(self) -> int | None:
        one = self.estimate
        return (
            stats.clusters_needed(one, self.questions, one.value - self.bound, self.alpha)
            if math.isfinite(one.value)
            else None
        )


@dataclass(frozen=True)
class Claim:
    """What was published: it holds when all of its parts do. The finding's own verdict is that of its `headline` claims."""

    text: str
    source: str
    parts: tuple[Criterion, ...]
    headline: bool = True

    @property
    def verdict(self) -> Verdict:
        return together([part.verdict for part in self.parts])


def together(verdicts: Sequence[Verdict]) -> Verdict:
    """Of what is claimed at once: one that is not reproduced refutes it, and all must be for it to be reproduced."""
    if not verdicts:
        return Verdict("undecided")
    if any(one.word == "not reproduced" for one in verdicts):
        return Verdict("not reproduced")
    open_ones = [one for one in verdicts if one.word == "undecided"]
    if not open_ones:
        return Verdict("reproduced")
    needed = [one.needed for one in open_ones if one.needed is not None]
    return Verdict("undecided", max(needed) if len(needed) == len(open_ones) else None)
