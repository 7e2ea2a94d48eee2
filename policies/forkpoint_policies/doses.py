"""Doses of a policy and its placebo, in expected changed tokens per token, and when their comparison is conclusive.

A placebo that is matched place by place moves only what other tokens hold, and leads to other texts: over whole answers
it may change less or more than its policy. The match ratio says how much of the policy's dose it has.
"""

from __future__ import annotations

UNEQUAL = 1.25
"""Doses that differ by more than a quarter are not equal."""

MIN_RATIO = 1 / UNEQUAL
"""The match ratio below which nothing is said of a policy beyond its placebo: 0.8."""


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


def why_no_conclusion(dose: float | None, placebo_dose: float | None) -> str | None:
    """Why nothing can be said of a policy beyond its placebo; None if the placebo has enough of its dose."""
    if dose is None or placebo_dose is None:
        return "the doses are not known"
    ratio = match_ratio(dose, placebo_dose)
    if ratio is None:
        return "the policy changed no probabilities, so that it has no dose to compare"
    return None if is_strong_enough(ratio) else f"the placebo has {ratio:.2f} of its dose, less than {MIN_RATIO:g}"
