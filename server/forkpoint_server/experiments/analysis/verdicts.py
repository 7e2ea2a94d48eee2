"""The verdict on an arm in a metric, as a word and as a sentence; never more certain than its interval."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from .sums import Metric

Verdict = Literal["better", "worse", "different", "not yet decided"]


def decide(difference: Mapping[str, Any], metric: Metric, p_holm: float, alpha: float) -> Verdict:
    """The verdict of a decision metric, from its p-value after Holm."""
    if p_holm > alpha or not difference["estimate"]:
        return "not yet decided"
    if metric.direction == "neither":
        return "different"
    return "worse" if metric.harm * difference["estimate"] > 0 else "better"


def sentence(verdict: Verdict, difference: Mapping[str, Any], p_holm: float, more: Mapping[str, Any]) -> str:
    """The verdict with its evidence, or with what is still missing."""
    if verdict != "not yet decided":
        return f"{verdict}: {difference['estimate']:+.4g} (p = {p_holm:.2g} after Holm)"
    return _undecided(difference["reason"], "an effect", more)


def guardrail_sentence(guardrail: Mapping[str, Any], reason: str | None, more: Mapping[str, Any]) -> str:
    """The same for a guardrail."""
    margin = guardrail["margin"]
    if guardrail["status"] == "breached":
        return f"breached: harm of at least {guardrail['at_least']:.4g}, where {margin:g} is tolerated"
    if guardrail["status"] == "within margin":
        return f"within margin: harm of at most {guardrail['at_most']:.4g}, where {margin:g} is tolerated"
    return _undecided(reason, "a distance from the margin", more)


def _undecided(reason: str | None, what: str, more: Mapping[str, Any]) -> str:
    if reason is not None:
        return f"not yet decided: {reason}"
    if more["requests"] is None:
        return "not yet decided"
    if more["requests"] == 0:
        return f"not yet decided; {what} of {more['effect']:.4g} would by now most likely have shown"
    return (
        f"not yet decided: {what} of {more['effect']:.4g} would most likely show after "
        f"{more['requests']:,} more requests"
    )
