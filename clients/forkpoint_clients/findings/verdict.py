"""Verdicts on claims, never more certain than the intervals of the figures that they rest on."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from forkpoint_clients.evaluate import stats
from forkpoint_clients.evaluate.stats import Estimate

Word = Literal["reproduced", "not reproduced", "measured", "measured otherwise", "undecided"]
"""Measured: a claim of our own, which nobody published, so that there is nothing to reproduce."""

MIN_QUESTIONS = 10
"""Fewer questions decide nothing: intervals assume many clusters."""

Form = Literal["percent", "points", "count", "change", "nats", "number"]
"""How a figure is formatted: a function of `formatting`."""


@dataclass(frozen=True)
class Verdict:
    """A verdict. `needed` is about how many questions would decide it if the figure stays; None if that is unknown."""

    word: Word
    needed: int | None = None

    def __str__(self) -> str:
        if self.word != "undecided":
            return self.word
        return "undecided" if self.needed is None else f"undecided (n needed: {self.needed:,})"


@dataclass(frozen=True)
class Criterion:
    """A figure that a claim puts on one side of `bound`, from `questions` questions; its interval covers 1 - `alpha`.

    `each` is the number of questions sent per question in the figure, if it covers only some: `needed` counts all of
    them.
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
        """Reproduced if the whole interval is on the claimed side of the bound, not reproduced if it is on the other
        side.

        An interval of width zero decides nothing: nothing varied among few questions.
        """
        estimate = self.estimate
        if self.questions < MIN_QUESTIONS:
            return self._undecided(max(MIN_QUESTIONS, self._needed() or 0))
        if math.isnan(estimate.low) or math.isnan(estimate.high) or estimate.high - estimate.low <= stats.ROUNDING:
            return Verdict("undecided")
        if estimate.low > self.bound:
            return Verdict("reproduced" if self.claimed == "above" else "not reproduced")
        if estimate.high < self.bound:
            return Verdict("reproduced" if self.claimed == "below" else "not reproduced")
        needed = self._needed()
        return self._undecided(None if needed is None else max(needed, self.questions + 1))

    def _undecided(self, needed: int | None) -> Verdict:
        return Verdict("undecided", None if needed is None else math.ceil(needed * self.each))

    def _needed(self) -> int | None:
        estimate = self.estimate
        if not math.isfinite(estimate.value):
            return None
        return stats.clusters_needed(estimate, self.questions, estimate.value - self.bound, self.alpha)


@dataclass(frozen=True)
class Claim:
    """A published claim, or one of our `own`, which holds if all of its `parts` do.

    The finding's verdict is that of its `headline` claims.
    """

    text: str
    source: str
    parts: tuple[Criterion, ...]
    headline: bool = True
    own: bool = False

    @property
    def verdict(self) -> Verdict:
        return self._named(combined([part.verdict for part in self.parts]))

    def verdict_of(self, part: Criterion) -> Verdict:
        """The verdict on one of the parts, in this claim's words."""
        return self._named(part.verdict)

    def _named(self, verdict: Verdict) -> Verdict:
        return Verdict(MEASURED[verdict.word], verdict.needed) if self.own else verdict


MEASURED: Mapping[Word, Word] = {
    "reproduced": "measured",
    "not reproduced": "measured otherwise",
    "undecided": "undecided",
}
"""The words for a claim of our own."""


def combined(verdicts: Sequence[Verdict]) -> Verdict:
    """The verdict on several claims at once: one that is not reproduced refutes it; all must be reproduced to reproduce
    it. It is *measured* if no published claim is among them.
    """
    if not verdicts:
        return Verdict("undecided")
    for refuted in ("not reproduced", "measured otherwise"):
        if any(verdict.word == refuted for verdict in verdicts):
            return Verdict(refuted)
    undecided = [verdict for verdict in verdicts if verdict.word == "undecided"]
    if not undecided:
        return Verdict("reproduced" if any(verdict.word == "reproduced" for verdict in verdicts) else "measured")
    needed = [verdict.needed for verdict in undecided if verdict.needed is not None]
    return Verdict("undecided", max(needed) if len(needed) == len(undecided) else None)
