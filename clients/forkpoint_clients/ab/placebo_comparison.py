"""Each policy beside its placebo: the ratio of their doses, and what it does beyond one that has enough of its dose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from forkpoint_clients.evaluate.formatting import points
from forkpoint_clients.evaluate.journal import Unit
from forkpoint_clients.evaluate.stats import Estimate
from forkpoint_policies.doses import match_ratio, why_no_conclusion

from .comparison import ScoredAnswer, compare


@dataclass(frozen=True)
class PlaceboComparison:
    """A policy's arm minus its placebo's, over `pairs` of answers to the same question with the same seed.

    `ratio` is the placebo's effect per token over the policy's; None if one is unknown or the policy changed nothing.
    """

    arm: str
    placebo: str
    dose: float | None
    placebo_dose: float | None
    ratio: float | None
    pairs: int
    questions: int
    correct: Estimate | None
    tokens: Estimate | None

    @property
    def conclusion(self) -> str:
        """What may be said of the policy beyond its placebo; nothing if the placebo has too little of its dose."""
        if (reason := why_no_conclusion(self.dose, self.placebo_dose)) is not None:
            return f"no conclusion: {reason}"
        if self.correct is None:
            return "no conclusion: no pair has a score"
        found = points(self.correct)
        return f"beyond its placebo: {found}" if self.correct.excludes_zero else f"nothing seen beyond it: {found}"


def compare_with_placebos(answers: Mapping[Unit, ScoredAnswer], placebos: Mapping[str, str]) -> list[PlaceboComparison]:
    """Each pair of a run. `placebos` maps placebo arms to those of their policies."""
    return [_compare(answers, arm, placebo) for placebo, arm in placebos.items()]


def _compare(answers: Mapping[Unit, ScoredAnswer], arm: str, placebo: str) -> PlaceboComparison:
    pair: Sequence[str] = (placebo, arm)
    compared = compare(answers, pair, num_requested=0, at_equal_length=False)
    of_placebo, of_policy = compared.arms
    (difference,) = compared.differences
    return PlaceboComparison(
        arm,
        placebo,
        of_policy.dose,
        of_placebo.dose,
        match_ratio(of_policy.dose, of_placebo.dose),
        difference.pairs,
        difference.questions,
        difference.correct,
        difference.tokens,
    )
