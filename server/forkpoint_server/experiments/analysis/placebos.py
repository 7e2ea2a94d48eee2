"""Each arm beside its placebo: the ratio of their doses, and what it does beyond a placebo with enough of its dose.

That a weaker placebo does less than its policy says nothing about the policy. Differences are shown in any case; a
verdict needs a placebo with at least 0.8 of its policy's dose.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from forkpoint_policies.doses import match_ratio, why_no_conclusion

from .comparisons import describe_difference, finite, p_of
from .estimates import estimate_difference, estimate_mean
from .multiple_testing import holm
from .sums import NONE, Arm, Metric
from .verdicts import decide

UNDECIDED = "not yet decided"


@dataclass(frozen=True)
class Dose:
    """What an arm's policy changed: `effect` expected tokens of `tokens` generated ones.

    `unknown` is the number of further requests whose effect is not recorded: earlier versions did not.
    """

    effect: float = 0.0
    tokens: int = 0
    unknown: int = 0

    @property
    def per_token(self) -> float | None:
        return finite(self.effect / self.tokens) if self.tokens else None


@dataclass(frozen=True)
class PlaceboPair:
    """A policy's arm and its placebo's, with what either changed."""

    arm: Arm
    placebo: Arm
    dose: Dose
    placebo_dose: Dose


def compare_with_placebos(
    pairs: Sequence[PlaceboPair], metrics: Sequence[Metric], alpha: float, sound: bool
) -> list[dict[str, Any]]:
    """Each pair, as JSON: doses, their ratio, a conclusion, and the difference, arm minus placebo, in each metric.

    The decision metrics of all pairs are one family, beside that of the arms against the control. Verdicts are withheld
    where the placebo has too little of the dose, and unless the SRM test is `sound`.
    """
    estimates = {
        (number, metric.name): estimate_difference(
            pair.arm.metrics.get(metric.name, NONE), pair.placebo.metrics.get(metric.name, NONE)
        )
        for number, pair in enumerate(pairs)
        for metric in metrics
    }
    family = [(number, metric.name) for number in range(len(pairs)) for metric in metrics if metric.role == "decision"]
    corrected = dict(zip(family, holm([p_of(estimates[key]) for key in family]), strict=True))
    compared = []
    for number, pair in enumerate(pairs):
        reason = _why_no_conclusion(pair, metrics)
        described = {}
        for metric in metrics:
            base = estimate_mean(pair.placebo.metrics.get(metric.name, NONE)).value
            difference = describe_difference(estimates[number, metric.name], base, alpha)
            p_holm = corrected.get((number, metric.name))
            decided = p_holm is not None and reason is None and sound
            verdict = decide(difference, metric, p_holm, alpha) if decided and p_holm is not None else None
            described[metric.name] = {**difference, "p_value_holm": p_holm, "verdict": verdict}
        dose, placebo_dose = pair.dose.per_token, pair.placebo_dose.per_token
        verdicts = {name: str(one["verdict"]) for name, one in described.items() if one["verdict"] is not None}
        compared.append(
            {
                "arm": pair.arm.name,
                "placebo": pair.placebo.name,
                "dose": dose,
                "placebo_dose": placebo_dose,
                "ratio": match_ratio(dose, placebo_dose),
                "requests_without_effect": pair.dose.unknown + pair.placebo_dose.unknown,
                "conclusion": (f"no conclusion: {reason}" if reason is not None else _conclusion(verdicts))
                if sound
                else None,
                "metrics": described,
            }
        )
    return compared


def _why_no_conclusion(pair: PlaceboPair, metrics: Sequence[Metric]) -> str | None:
    reason = why_no_conclusion(pair.dose.per_token, pair.placebo_dose.per_token)
    if reason is None:
        decisive = any(metric.role == "decision" for metric in metrics)
        return None if decisive else "no metric of the experiment has the role `decision`"
    unknown = pair.dose.unknown + pair.placebo_dose.unknown
    return f"{reason}; of {unknown:,} requests no effect is recorded" if unknown else reason


def _conclusion(verdicts: dict[str, str]) -> str:
    found = [f"{verdict} in {metric}" for metric, verdict in verdicts.items() if verdict != UNDECIDED]
    return f"beyond its placebo: {', '.join(found)}" if found else f"beyond its placebo: {UNDECIDED}"
