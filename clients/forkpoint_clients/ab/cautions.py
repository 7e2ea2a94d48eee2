"""Cautions for the reader of a comparison: general ones about such methods, and warnings about this run's answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from forkpoint_clients.evaluate.doses import PLACEBO, describe_doses

from .comparison import ArmFigures, Comparison

GENERAL = [
    (
        "High entropy only suggests a fork: in published resampling data (Llama-3-8B-Instruct) 11.4% of the top fifth "
        "by entropy were verified as forks, and 1.1% of the rest."
    ),
    (
        "Greedy runs in bfloat16 on benchmarks of 30 questions vary by up to 9 points between GPU configurations "
        "alone. Here answers are paired by question and seed, and intervals are clustered by question: many questions, "
        "and several samples of each, narrow them."
    ),
    (
        "Compare a method that ends early with a cap that makes the model answer, at the same mean length: answers "
        "that are merely cut off count as none. Compare one that branches with independent samples of as many "
        "generated tokens."
    ),
    (
        "A policy that fires often but changes little has done nothing: check the effect (the expected number of "
        "changed tokens per answer) of the policy and of its placebo before its apparent gain."
    ),
    "The arms share the server, so latencies are those of the whole mixture and do not compare the arms.",
]
"""On the evidence for interventions at forks, and on this kind of comparison."""

FEW_QUESTIONS = 30
MANY_TRUNCATED = 0.1


def warnings(comparison: Comparison, placebos: Mapping[str, str] | None = None) -> list[str]:
    """Warnings about these answers, one sentence each. `placebos` maps placebo arms to those of their policies; by
    default by their names.
    """
    names = {arm.arm for arm in comparison.arms}
    by_name = {name: policy for name in names if (policy := name.removesuffix(PLACEBO)) in names - {name}}
    return list(_warnings(comparison, by_name if placebos is None else placebos))


def _warnings(comparison: Comparison, placebos: Mapping[str, str]) -> Iterator[str]:
    if comparison.interim:
        yield (
            f"The run is not complete: it has {comparison.answered} of {comparison.num_requested} answers. These are "
            f"interim figures of the {comparison.compared} answers to the first questions that all arms have answered, "
            "without p-values."
        )
    if comparison.questions < FEW_QUESTIONS:
        few = "1 question is" if comparison.questions == 1 else f"{comparison.questions} questions are"
        yield f"{few} few: intervals of so few clusters are wide, and may still be too narrow."
    if failed := sum(arm.errors + arm.failed_scorers for arm in comparison.arms):
        yield (
            f"{failed} answers have no score and are excluded with their pairs; if an arm causes that, the rest is "
            f"biased."
        )
    cut = [
        f"{arm.truncated.value:.0%} of the answers of {arm.arm}"
        for arm in comparison.arms
        if arm.truncated is not None and arm.truncated.value > MANY_TRUNCATED
    ]
    if cut:
        yield f"{', '.join(cut)} are truncated at the length limit: their scores also depend on length."
    lengths = [
        f"{difference.arm} are {'longer' if difference.tokens.value > 0 else 'shorter'} than those of {difference.to}"
        for difference in comparison.differences
        if difference.tokens is not None and difference.tokens.excludes_zero
    ]
    if lengths:
        yield f"The answers of {', and those of '.join(lengths)}: compare them at equal length."
    if comparison.multi_request_arms:
        yield (
            f"An answer of {', '.join(comparison.multi_request_arms)} takes several requests, and its tokens are those "
            "of all of them. What a shorter limit would have left of it is unknown, so the comparison at equal caps "
            "excludes it."
        )
    yield from _placebos(comparison.arms, placebos)
    if (count := len(comparison.differences)) > 1:
        yield (
            f"{count} arms are compared with {comparison.arms[0].arm}: p-values are corrected for that (Holm), "
            f"intervals are not."
        )


def _placebos(arms: Sequence[ArmFigures], placebos: Mapping[str, str]) -> Iterator[str]:
    """Placebos whose dose is not their policy's."""
    doses = {arm.arm: arm.dose for arm in arms}
    for placebo, policy in placebos.items():
        dose, placebo_dose = doses.get(policy), doses.get(placebo)
        if dose is not None and placebo_dose is not None:
            sentence, equal = describe_doses(policy, dose, placebo, placebo_dose)
            if not equal:
                yield sentence
