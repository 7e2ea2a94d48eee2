"""What a comparison says in a sentence per arm: a difference, or none and how large a one would have been seen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from forkpoint_clients.evaluate import formatting, stats

from .comparison import Comparison, Difference

Kind = Literal["better", "worse", "undecided", "interim"]

UNCORRECTED = "‡"
"""Marks an interval that excludes zero where the corrected p-value does not decide."""


@dataclass(frozen=True)
class ArmVerdict:
    """An arm's verdict. `detectable` is the difference that this run would have shown with 80% power; above 1, the
    largest that there can be, none."""

    arm: str
    kind: Kind
    sentence: str
    detectable: float | None


def verdicts(comparison: Comparison) -> list[ArmVerdict]:
    """A verdict on each arm but the first."""
    return [_verdict(difference, comparison.interim) for difference in comparison.differences]


def uncorrected(difference: Difference) -> bool:
    """Whether the interval, not corrected for the number of arms, excludes zero while p (Holm) is not small."""
    estimate = difference.correct
    if estimate is None or math.isnan(difference.correct_p_holm):
        return False
    return estimate.excludes_zero and difference.correct_p_holm >= stats.ALPHA


def marked_points(difference: Difference) -> str:
    """The difference in points, marked where interval and p-value disagree."""
    return formatting.points(difference.correct) + (UNCORRECTED if uncorrected(difference) else "")


def _verdict(difference: Difference, interim: bool) -> ArmVerdict:
    arm, to, estimate = difference.arm, difference.to, difference.correct
    detectable = None if estimate is None else stats.detectable(estimate, difference.questions)
    if estimate is None or math.isnan(estimate.low):
        return ArmVerdict(arm, "undecided", f"{arm}: too few questions to compare it with {to}.", None)
    measured = f"{formatting.points(estimate)} points"
    power = _power(detectable)
    if interim:
        return ArmVerdict(arm, "interim", f"{arm} against {to}, so far: {measured}; no verdict before the end.", None)
    p = difference.correct_p_holm
    if not math.isnan(p) and p < stats.ALPHA:
        kind: Kind = "better" if estimate.value > 0 else "worse"
        often = "more" if estimate.value > 0 else "less"
        sentence = f"{arm} is right {often} often than {to}: {measured} (p {_p(p)}).{power}"
        return ArmVerdict(arm, kind, sentence, detectable)
    if uncorrected(difference):
        why = f"The interval alone excludes zero, but p, corrected for the number of arms, does not (p {_p(p)})."
        return ArmVerdict(arm, "undecided", f"{arm} against {to}: undecided, {measured}. {why}{power}", detectable)
    sentence = f"No difference shown between {arm} and {to}: {measured} (p {_p(p)}).{power}"
    return ArmVerdict(arm, "undecided", sentence, detectable)


def _p(p: float) -> str:
    shown = formatting.p_value(p)
    return shown if shown.startswith("<") else f"= {shown}"


def _power(detectable: float | None) -> str:
    if detectable is None:
        return ""
    if detectable > 1:
        return " With so few questions this run could have shown no difference, however large, with 80% power."
    return f" This run would have shown a difference of {100 * detectable:.1f} points with 80% power."


def headline(found: Sequence[ArmVerdict]) -> str:
    """All verdicts in a line, for a title."""
    return " ".join(verdict.sentence for verdict in found)
