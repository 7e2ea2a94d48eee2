"""Doses: how much a policy and its placebo change, in expected changed tokens per token.

A placebo is matched position by position. Over whole answers it may change more or less than its policy, as it leads
to other texts.
"""

from __future__ import annotations

PLACEBO = ".placebo"
"""What the names of placebos end with."""

UNEQUAL = 1.25
"""Doses that differ by more than a quarter are not equal."""


def describe_doses(policy: str, dose: float, placebo: str, placebo_dose: float) -> tuple[str, bool]:
    """Both doses in a sentence, and whether they are equal."""
    low, high = sorted((dose, placebo_dose))
    equal = high <= UNEQUAL * low
    verdict = "equal doses, within a quarter" if equal else "so the comparison is not of equal doses"
    return f"{policy} changed {dose:.3g} tokens per token, {placebo} {placebo_dose:.3g}: {verdict}.", equal
