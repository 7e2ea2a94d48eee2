"""Doses: how much a policy and its placebo change, in expected changed tokens per token.

A placebo that is matched place by place moves only what other tokens hold, and leads to other texts: over whole answers
it may change less or more than its policy. The match ratio says how much of the policy's dose it has.
"""

from __future__ import annotations

from collections.abc import Iterable

from .asker import Answer

PLACEBO = ".placebo"
"""What the names of placebos end with."""

UNEQUAL = 1.25
"""Doses that differ by more than a quarter are not equal."""

MIN_RATIO = 1 / UNEQUAL
"""The match ratio below which nothing is said of a policy beyond its placebo: 0.8."""


def mean_dose(answers: Iterable[Answer]) -> float | None:
    """The effect of all answers together per token; None if none reports an effect."""
    known = [(answer.effect, answer.tokens) for answer in answers if answer.effect is not None]
    tokens = sum(tokens for _, tokens in known)
    return sum(effect for effect, _ in known) / tokens if tokens else None


def match_ratio(dose: float | None, placebo_dose: float | None) -> float | None:
    """The dose of a placebo over that of its policy; None if the policy changed nothing, or one is unknown."""
    return placebo_dose / dose if dose and placebo_dose is not None else None


def doses_are_equal(dose: float, placebo_dose: float) -> bool:
    """Within a quarter."""
    low, high = sorted((dose, placebo_dose))
    return high <= UNEQUAL * low


def is_strong_enough(ratio: float | None) -> bool:
    """Whether a placebo of this match ratio has enough of its policy's dose to say what the policy does beyond it."""
    return ratio is not None and ratio >= MIN_RATIO


def describe_doses(policy: str, dose: float, placebo: str, placebo_dose: float) -> tuple[str, bool]:
    """Both doses in a sentence, and whether they are equal."""
    equal, ratio = doses_are_equal(dose, placebo_dose), match_ratio(dose, placebo_dose)
    verdict = "equal doses, within a quarter" if equal else "so the comparison is not of equal doses"
    share = "" if ratio is None else f" ({ratio:.2f} of it)"
    return f"{policy} changed {dose:.3g} tokens per token, {placebo} {placebo_dose:.3g}{share}: {verdict}.", equal
