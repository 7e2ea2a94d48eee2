"""Means, paired differences and bootstraps over a lab's answers; all intervals are clustered by question."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats as distributions

from forkpoint_clients.evaluate import stats
from forkpoint_clients.evaluate.doses import describe_doses
from forkpoint_clients.evaluate.stats import ALPHA, Estimate, Floats
from forkpoint_policies.doses import MIN_RATIO

from .reading import ScoredChoices

Answers = Mapping[tuple[str, int], ScoredChoices]
Read = Callable[[ScoredChoices], float | None]
RESAMPLES = 1000
UNKNOWN = Estimate(math.nan)


def score(scored: ScoredChoices) -> float | None:
    """The score of the first choice."""
    return scored.score


def tokens(scored: ScoredChoices) -> float | None:
    """All generated tokens; None for a failed request."""
    return None if scored.answer.error is not None else scored.tokens


def effect(scored: ScoredChoices) -> float | None:
    """The expected number of tokens that the policy changed."""
    return scored.effect


def doses(answers: Mapping[str, Answers], placebos: Mapping[str, str]) -> Iterator[str]:
    """A sentence with the doses of each policy and its placebo, of `placebos`: placebo -> policy, by their names."""
    for placebo, policy in placebos.items():
        own, other = dose(answers[policy]), dose(answers[placebo])
        if own is not None and other is not None:
            yield describe_doses(policy, own, placebo, other)[0]


def dose(answers: Answers) -> float | None:
    """The effect of all answers together per token."""
    known = [(scored.effect, scored.tokens) for scored in answers.values() if scored.effect is not None]
    count = sum(tokens for _, tokens in known)
    return sum(effect for effect, _ in known) / count if count else None


def fired(scored: ScoredChoices) -> float | None:
    """How often the policy's rules acted."""
    summary = scored.answer.forkpoint
    if summary is None:
        return None
    return float(sum(action["fired"] for action in summary.get("interventions", {}).values()))


def rarer(answers: Mapping[str, Answers], placebos: Mapping[str, str]) -> Iterator[str]:
    """A sentence for each placebo that acts less than 0.8 times as often: `placebos` maps placebos to policies.

    For policies that change no probability where they act, and so have no dose.
    """
    for placebo, policy in placebos.items():
        own, other = (average(answers[name], fired).value for name in (policy, placebo))
        if other < MIN_RATIO * own:  # not where one is unknown
            yield (
                f"{placebo} acted {other:.1f} times an answer, {policy} {own:.1f} times: a difference between them may "
                "be one of how often they act."
            )


def average(answers: Answers, read: Read = score, alpha: float = ALPHA) -> Estimate:
    """The mean of the known values; scores have an interval that stays between 0 and 1."""
    values = {key: value for key, scored in answers.items() if (value := read(scored)) is not None}
    if not values:
        return UNKNOWN
    estimate = stats.proportion if read is score else stats.mean
    return estimate(list(values.values()), [question for question, _ in values], alpha)


def paired(own: Answers, other: Answers, read: Read = score, alpha: float = ALPHA) -> Estimate:
    """The mean difference, own minus other, over the same questions and samples."""
    differences = {}
    for key in own:
        if key in other and (mine := read(own[key])) is not None and (theirs := read(other[key])) is not None:
            differences[key] = mine - theirs
    if not differences:
        return UNKNOWN
    questions = [question for question, _ in differences]
    return stats.mean(list(differences.values()), questions, alpha, bound=1.0 if read is score else None)


def relative(own: Answers, other: Answers, alpha: float = ALPHA) -> Estimate:
    """The relative change of the mean number of tokens, over the same questions and samples."""
    keys = [key for key in own if key in other and tokens(own[key]) is not None and tokens(other[key]) is not None]
    if not keys:
        return UNKNOWN
    names, groups = np.unique([question for question, _ in keys], return_inverse=True)
    sums = np.zeros((len(names), 2))
    np.add.at(sums, groups, [[own[key].tokens, other[key].tokens] for key in keys])

    def change(weights: Floats) -> float:
        mine, theirs = weights @ sums
        return float(mine / theirs - 1)

    return bootstrapped(change, len(names), alpha)


def clustered(values: ArrayLike, questions: ArrayLike, alpha: float = ALPHA, bound: float | None = None) -> Estimate:
    """The mean of values [n] of questions [n]; UNKNOWN without values."""
    return stats.mean(values, questions, alpha, bound) if len(np.asarray(values)) else UNKNOWN


def share(values: ArrayLike, questions: ArrayLike, alpha: float = ALPHA) -> Estimate:
    """The mean of values from 0 to 1 [n] of questions [n], with an interval that stays in 0 to 1."""
    return stats.proportion(np.asarray(values, np.float64), questions, alpha) if len(np.asarray(values)) else UNKNOWN


def bootstrapped(
    compute: Callable[[Floats], float], questions: int, alpha: float = ALPHA, resamples: int = RESAMPLES, seed: int = 0
) -> Estimate:
    """A figure computed from weights [questions], with its bootstrap interval over questions.

    There is none if more than 5 % of the resamples have no value. The interval is the wider of the percentiles and of
    Student's t with the resamples' spread, which allows for few questions.
    """
    (estimate,) = bootstrapped_together(lambda weights: (compute(weights),), questions, alpha, resamples, seed)
    return estimate


def bootstrapped_together(
    compute: Callable[[Floats], Sequence[float]],
    questions: int,
    alpha: float = ALPHA,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> list[Estimate]:
    """As `bootstrapped`, several figures of the same resamples at once."""
    values = compute(np.ones(questions))
    if questions < 2:
        return [Estimate(value) for value in values]
    resampled = np.array([compute(weights) for weights in stats.bootstrap_weights(questions, resamples, seed)])
    return [_interval(value, column, questions, alpha) for value, column in zip(values, resampled.T, strict=True)]


def _interval(value: float, resampled: Floats, questions: int, alpha: float) -> Estimate:
    known = resampled[np.isfinite(resampled)]
    if len(known) < 0.95 * len(resampled) or not math.isfinite(value):
        return Estimate(value)
    low, high = np.quantile(known, [alpha / 2, 1 - alpha / 2]).tolist()
    error = float(known.std()) * math.sqrt(questions / (questions - 1))
    half_width = float(distributions.t(questions - 1).ppf(1 - alpha / 2)) * error
    return Estimate(value, min(low, value - half_width), max(high, value + half_width), error)


def questions_of(*answers: Answers) -> int:
    """The number of questions that have an answer."""
    return len({question for by_key in answers for question, _ in by_key})
