"""The analysis of a running experiment, valid at any time: confidence sequences, p-values, Holm, guardrails.

docs/experiments-analysis.md explains each figure and what it was checked against.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from .comparisons import describe_arm, describe_difference, describe_guardrail, describe_power, p_of
from .estimates import Estimate, estimate_difference, estimate_mean
from .multiple_testing import holm
from .srm import srm_test
from .sums import NONE, Arm, Metric, Stratum, Sums
from .triggered import describe_triggered
from .verdicts import decide, guardrail_sentence, sentence

__all__ = ["Arm", "Metric", "Stratum", "Sums", "analyse"]

NO_EFFECTS: Mapping[str, float] = MappingProxyType({})

LATENCY = "latency_seconds"
LATENCY_WARNING = (
    "arms share one engine: an arm that computes more slows the others too, so this difference is not the policy's "
    "own. Cost is what `tokens` says; latency can be compared in an experiment whose unit is the time slice"
)
DRIFT_WARNING = (
    "weights have changed, and the values do not say in which period they came: what drifted between the periods is "
    "part of the differences"
)


def analyse(
    arms: Sequence[Arm],
    control: str,
    strata: Sequence[Stratum],
    metrics: Sequence[Metric],
    alpha: float = 0.05,
    effects: Mapping[str, float] = NO_EFFECTS,
    unit: str = "request",
) -> dict[str, Any]:
    """The analysis of an experiment so far, as JSON: None stands for NaN and infinity.

    `alpha` is the probability of any false verdict on the decision metrics, over all arms, metrics and looks.
    `effects`: metric -> the smallest effect of interest, in the metric's unit. `unit` is that of the experiment; the
    warning about latency depends on it. Raises ValueError for an unknown control, for arms or metrics of the same
    name, and for invalid weights, effects or alpha.
    """
    by_name = {arm.name: arm for arm in arms}
    _check(arms, control, metrics, alpha, effects)

    # are the arms comparable at all?
    ratio = srm_test(list(by_name), strata)

    # the decision metrics of all arms are one family of hypotheses
    others = [arm for arm in arms if arm.name != control]
    family = [(arm.name, metric.name) for metric in metrics if metric.role == "decision" for arm in others]
    estimates = {
        (arm.name, metric.name): estimate_difference(
            arm.metrics.get(metric.name, NONE), by_name[control].metrics.get(metric.name, NONE)
        )
        for metric in metrics
        for arm in others
    }
    corrected = dict(zip(family, holm([p_of(estimates[pair]) for pair in family]), strict=True))

    # each metric in each arm
    described = {
        metric.name: _metric(
            metric, arms, by_name[control], estimates, corrected, alpha, effects.get(metric.name), ratio["passed"]
        )
        for metric in metrics
    }
    _correct_triggered(described, family)
    for metric in metrics:
        described[metric.name]["warning"] = LATENCY_WARNING if metric.name == LATENCY and unit != "slice" else None
    return {
        "sample_ratio": ratio,
        "verdict": _summary(described, family, ratio["passed"]),
        "alpha": alpha,
        "control": control,
        "comparisons": len(family),
        "metrics": described,
        "warnings": _warnings(arms, strata),
    }


def _metric(
    metric: Metric,
    arms: Sequence[Arm],
    control: Arm,
    estimates: Mapping[tuple[str, str], Estimate],
    corrected: Mapping[tuple[str, str], float],
    alpha: float,
    effect: float | None,
    sound: bool,
) -> dict[str, Any]:
    """One metric in all arms. Verdicts are withheld unless the SRM test is `sound`."""
    theirs = control.metrics.get(metric.name, NONE)
    base = estimate_mean(theirs)
    level = alpha / len(corrected) if metric.role == "decision" else alpha
    described: dict[str, Any] = {}
    for arm in arms:
        ours = arm.metrics.get(metric.name, NONE)
        described[arm.name] = describe_arm(ours, alpha)
        if arm.name == control.name:
            continue
        estimate = estimates[arm.name, metric.name]
        num_requests = described[arm.name]["requests"] + base.requests
        difference = describe_difference(estimate, base.value, alpha)
        more = describe_power(estimate, metric, effect, base.value, num_requests, level)
        p_holm = corrected.get((arm.name, metric.name))
        guardrail = describe_guardrail(estimate, metric, alpha) if metric.role == "guardrail" else None
        verdict = text = None
        if p_holm is not None:
            verdict = decide(difference, metric, p_holm, alpha)
            text = sentence(verdict, difference, p_holm, more)
        elif guardrail is not None:
            verdict, text = guardrail["status"], guardrail_sentence(guardrail, estimate.reason, more)
        described[arm.name]["difference"] = {
            **difference,
            "p_value_holm": p_holm,
            "verdict": verdict if sound else None,
            "text": text if sound else None,
            "more_requests": more,
            "guardrail": guardrail and {**guardrail, "status": guardrail["status"] if sound else None},
            "triggered": describe_triggered(arm, control, metric.name, alpha),
        }
    return {"direction": metric.direction, "role": metric.role, "margin": metric.margin, "arms": described}


def _correct_triggered(described: Mapping[str, Any], family: Sequence[tuple[str, str]]) -> None:
    """Correct the p-values of the triggered differences, a family of their own."""
    triggered = {pair: described[pair[1]]["arms"][pair[0]]["difference"]["triggered"] for pair in family}
    corrected = holm([difference["p_value"] if difference else 1.0 for difference in triggered.values()])
    for difference, p_holm in zip(triggered.values(), corrected, strict=True):
        if difference:
            difference["p_value_holm"] = p_holm


def _summary(described: Mapping[str, Any], family: Sequence[tuple[str, str]], sound: bool) -> str | None:
    """The verdicts in one line, guardrails first; None where the SRM test failed."""
    if not sound:
        return None
    found: list[str] = []
    for metric, by_arm in described.items():
        for arm, figures in by_arm["arms"].items():
            verdict = figures.get("difference", {}).get("verdict")
            if verdict == "breached":
                found.insert(0, f"{arm} breaches the guardrail {metric}")
            elif (arm, metric) in family and verdict != "not yet decided":
                found.append(f"{arm} is {verdict} in {metric}")
    return "; ".join(found) or "nothing is decided yet"


def _warnings(arms: Sequence[Arm], strata: Sequence[Stratum]) -> list[str]:
    everything = [(arm.name, name, sums) for arm in arms for name, sums in arm.metrics.items()]
    warnings = [
        f"{sums.broken} units of {arm} have values of {name} that are not numbers; they are left out"
        for arm, name, sums in everything
        if sums.broken
    ]
    if len(strata) > 1 and any(sums.periods is None and sums.requests.size for _, _, sums in everything):
        warnings.append(DRIFT_WARNING)
    return warnings


def _check(
    arms: Sequence[Arm], control: str, metrics: Sequence[Metric], alpha: float, effects: Mapping[str, float]
) -> None:
    for what, names in (("arm", [arm.name for arm in arms]), ("metric", [metric.name for metric in metrics])):
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"each {what} has a name of its own, and these come twice: {', '.join(sorted(twice))}")
    if control not in {arm.name for arm in arms}:
        raise ValueError(f"the control {control!r} is none of the arms {', '.join(arm.name for arm in arms)}")
    if not 0 < alpha < 1:
        raise ValueError(f"alpha is {alpha}, and must lie between 0 and 1")
    if wrong := {name: size for name, size in effects.items() if not 0 < size < float("inf")}:
        raise ValueError(f"effects are sizes above 0, not {wrong}")
