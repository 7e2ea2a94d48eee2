"""What a reader of a comparison must know: what is known against such methods in general, and what these answers warn of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from .comparison import ArmFigures, Comparison

GENERAL = """
Entropy is not a fork detector by itself: of 25 forks verified by resampling, 1 lay in the top 20 % by entropy. Low entropy \
excludes a fork, high entropy only suggests one.
Greedy runs in bfloat16 on benchmarks of 30 questions vary by up to 9 points between GPU configurations alone. Here answers are \
paired by question and seed, and intervals are clustered by question: many questions, and several samples of each, narrow them.
A method that shortens or lengthens the answers must be compared at equal length: with a plain cap at the same mean length. One \
that branches must be compared with independent samples of as many generated tokens.
A policy that fires often and changes little has done nothing: look at the effect, the expected number of changed tokens per \
answer, of the policy and of its placebo, before looking at what it seems to gain.
The arms share the server, so latency is that of the whole mixture and is no comparison of the arms.
""".strip().split("\n")
"""Of the evidence for interventions at forks, and of this kind of comparison."""

FEW_QUESTIONS = 30
MANY_TRUNCATED = 0.1
UNLIKE_EFFECTS = 1.5
PLACEBO = ".placebo"


def warnings(comparison: Comparison) -> list[str]:
    """What these answers themselves warn of, in sentences."""
    return list(_warnings(comparison))


def _warnings(comparison: Comparison) -> Iterator[str]:
    if comparison.answered < comparison.asked:
        yield f"The run is not complete: {comparison.answered} of {comparison.asked} answers are there."
    if comparison.questions < FEW_QUESTIONS:
        yield f"{comparison.questions} questions are few: intervals of so few clusters are wide, and may still be too narrow."
    if failed := sum(arm.errors + arm.failed_scorers for arm in comparison.arms):
        yield f"{failed} answers have no score and are left out with their pairs; where the arm is why, the rest is biased."
    for arm in comparison.arms:
        if arm.truncated is not None and arm.truncated.value > MANY_TRUNCATED:
            share = f"{arm.truncated.value:.0%} of the answers of {arm.arm}"
            yield f"{share} are cut off at the length limit: what is right there is also a matter of length."
    for one in comparison.differences:
        if one.tokens is not None and one.tokens.certain:
            longer = "longer" if one.tokens.value > 0 else "shorter"
            yield f"The answers of {one.arm} are {longer} than those of {one.to}: compare them at equal length."
    if comparison.several:
        yield (
            f"An answer of {', '.join(comparison.several)} takes several requests, and its tokens are those of all together: what "
            "a shorter limit would have left of it is not known, so that it is not in the comparison of equal caps."
        )
    yield from _placebos(comparison.arms)
    if (count := len(comparison.differences)) > 1:
        yield f"{count} arms are compared with {comparison.arms[0].arm}: p-values are corrected for that (Holm), intervals are not."


def _placebos(arms: Sequence[ArmFigures]) -> Iterator[str]:
    effects = {arm.arm: arm.effect for arm in arms}
    for name, placebo in effects.items():
        policy = effects.get(name.removesuffix(PLACEBO))
        if not name.endswith(PLACEBO) or policy is None or placebo is None:
            continue
        low, high = sorted((policy, placebo))
        if high > UNLIKE_EFFECTS * low:
            changed = f"{name} changed {placebo:.1f} tokens per answer, the policy {policy:.1f}"
            yield f"{changed}: the placebo is matched place by place, and over whole answers they are not equally strong."
