"""An arm against the control in one metric, as JSON: means, difference, guardrail, and the requests still needed."""

from __future__ import annotations

import math
from typing import Any

from .confidence_sequence import p_value, radius
from .estimates import Estimate, estimate_mean, unit_count
from .power import times_more
from .sums import Metric, Sums

DEFAULT_EFFECT = 0.05
"""The default of the smallest effect of interest: a share of the control's mean."""


def finite(value: float | None) -> float | None:
    """The value, or None for NaN and infinity, which JSON lacks."""
    return None if value is None or not math.isfinite(value) else float(value)


def describe_arm(sums: Sums, alpha: float) -> dict[str, Any]:
    """Units, requests, mean and the mean's interval."""
    estimate = estimate_mean(sums)
    return {
        "units": unit_count(sums),
        "requests": int(estimate.requests),
        "mean": finite(estimate.value),
        "interval": _interval(estimate, alpha),
        "reason": estimate.reason,
    }


def describe_difference(estimate: Estimate, base: float | None, alpha: float) -> dict[str, Any]:
    """The arm's mean minus the control's, also as a share of `base`, the control's mean; interval and p-value."""
    certain = estimate.reason is None
    return {
        "estimate": finite(estimate.value),
        "relative": finite(estimate.value / base) if estimate.value is not None and base else None,
        "standard_error": finite(math.sqrt(estimate.variance)) if certain else None,
        "interval": _interval(estimate, alpha),
        "p_value": p_of(estimate),
        "reason": estimate.reason,
    }


def p_of(estimate: Estimate) -> float:
    """The p-value of no difference: 1 as long as nothing is certain."""
    if estimate.reason is not None or estimate.value is None:
        return 1.0
    return p_value(estimate.value, estimate.variance, estimate.requests)


def describe_guardrail(estimate: Estimate, metric: Metric, alpha: float) -> dict[str, Any]:
    """Is harm above the margin certain ("breached"), or harm below it? Each verdict is wrong in at most alpha."""
    result: dict[str, Any] = {"margin": metric.margin, "harm": None, "at_least": None, "at_most": None, "p_value": 1.0}
    if estimate.value is None:
        return {**result, "status": "not yet decided"}
    harm = metric.harm * estimate.value
    result["harm"] = finite(harm)
    if estimate.reason is not None:
        return {**result, "status": "not yet decided"}
    reach = radius(estimate.variance, estimate.requests, alpha, one_sided=True)
    p_breach = p_value(harm - metric.margin, estimate.variance, estimate.requests, one_sided=True)
    p_within = p_value(metric.margin - harm, estimate.variance, estimate.requests, one_sided=True)
    status = "breached" if p_breach <= alpha else "within margin" if p_within <= alpha else "not yet decided"
    ends = {"at_least": finite(harm - reach), "at_most": finite(harm + reach)}
    return {**result, **ends, "p_value": p_breach, "status": status}


def describe_power(
    estimate: Estimate, metric: Metric, requested: float | None, base: float | None, requests: float, alpha: float
) -> dict[str, Any]:
    """How many more requests, of arm and control together, show an effect, or that a guardrail is within its margin.

    The effect is `requested`, else the metric's margin, else a share of `base`, the control's mean. `requests`: so far.
    """
    default = abs(base) * DEFAULT_EFFECT if base else None
    effect = requested if requested is not None else metric.margin or default
    source = (
        "given"
        if requested is not None
        else "margin"
        if metric.margin
        else f"{DEFAULT_EFFECT:.0%} of the control's mean"
    )
    times = None if effect is None else times_more(estimate, effect, alpha, one_sided=metric.role == "guardrail")
    more = None if times is None else math.ceil((times - 1) * requests)
    return {"effect": finite(effect), "source": source if effect is not None else None, "requests": more}


def _interval(estimate: Estimate, alpha: float) -> list[float] | None:
    """The interval at level alpha; None until it is finite."""
    if estimate.reason is not None or estimate.value is None:
        return None
    reach = radius(estimate.variance, estimate.requests, alpha)
    ends = [estimate.value - reach, estimate.value + reach]
    return ends if all(math.isfinite(end) for end in ends) else None
