"""Doses of answers: how much a policy and its placebo changed in them, in expected changed tokens per token."""

from __future__ import annotations

from collections.abc import Iterable

from forkpoint_policies.doses import doses_are_equal, match_ratio

from .asker import Answer

PLACEBO = ".placebo"
"""What the names of placebos end with."""


def mean_dose(answers: Iterable[Answer]) -> float | None:
    """The effect of all answers together per token; None if none reports an effect."""
    known = [(answer.effect, answer.tokens) for answer in answers if answer.effect is not None]
    tokens = sum(tokens for _, tokens in known)
    return sum(effect for effect, _ in known) / tokens if tokens else None


def describe_doses(policy: str, dose: float, placebo: str, placebo_dose: float) -> tuple[str, bool]:
    """Both doses in a sentence, and whether they are equal."""
    equal, ratio = doses_are_equal(dose, placebo_dose), match_ratio(dose, placebo_dose)
    verdict = "equal doses, within a quarter" if equal else "so the comparison is not of equal doses"
    share = "" if ratio is None else f" ({ratio:.2f} of it)"
    return f"{policy} changed {dose:.3g} tokens per token, {placebo} {placebo_dose:.3g}{share}: {verdict}.", equal
