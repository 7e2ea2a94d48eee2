"""Means, paired differences and bootstraps over the answers of a lab; all intervals are clustered by question."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats as distributions

from forkpoint_clients.evaluate import stats
from forkpoint_clients.evaluate.stats import ALPHA, Estimate, Floats

from .reading import ScoredChoices

Answers = Mapping[tuple[str, int], ScoredChoices]
Read = Callable[[ScoredChoices], float | None]
DRAWS = 1000
NOTHING = Estimate(math.nan)


def score(reading: ScoredChoices) -> float | None:
    return reading.score


def tokens(reading: ScoredChoices) -> float | None:
    return None if reading.answer.error is not None else reading.tokens


def effect(reading: ScoredChoices) -> float | None:
    return reading.effect


def fired(reading: ScoredChoices) -> float | None:
    """How often the policy's rules acted."""
    told = reading.answer.forkpoint
    return None if told is None else float(sum(one["fired"] for one in told.get("interventions", {}).values()))


def average(answers: Answers, read: Read = score, alpha: float = ALPHA) -> Estimate:
    """The mean of what can be read; of scores an interval that stays between 0 and 1."""
    found = {key: value for key, one in answers.items() if (value := read(one)) is not None}
    if not found:
        return NOTHING
    estimate = stats.proportion if read is score else stats.mean
    return estimate(list(found.values()), [question for question, _ in found], alpha)


def paired(one: Answers, other: Answers, read: Read = score, alpha: float = ALPHA) -> Estimate:
    """The mean of one less the other, over the same questions and samples."""
    found = {}
    for key in one:
        if key in other and (mine := read(one[key])) is not None and (theirs := read(other[key])) is not None:
            found[key] = mine - theirs
    if not found:
        return NOTHING
    return stats.mean(
        list(found.values()), [question for question, _ in found], alpha, bound=1.0 if read is score else None
    )


def clustered(values: ArrayLike, questions: ArrayLike, alpha: float = ALPHA, bound: float | None = None) -> Estimate:
    """The mean of values [n] of questions [n]; nothing where there are none."""
    return stats.mean(values, questions, alpha, bound) if len(np.asarray(values)) else NOTHING


def share(values: ArrayLike, questions: ArrayLike, alpha: float = ALPHA) -> Estimate:
    """The mean of values from 0 to 1 [n], of questions [n], with an interval that stays there."""
    return stats.proportion(np.asarray(values, np.float64), questions, alpha) if len(np.asarray(values)) else NOTHING


def bootstrapped(
    compute: Callable[[Floats], float], questions: int, alpha: float = ALPHA, draws: int = DRAWS, seed: int = 0
) -> Estimate:
    """A figure of weights [questions] with its interval over drawn questions; without one where some draws have no value.

    The wider of the percentiles and of Student's t with the draws' spread, which allows for few questions.
    """
    value = compute(np.ones(questions))
    if questions < 2:
        return Estimate(value)
    drawn = (
        np.random.default_rng(seed).multinomial(questions, np.full(questions, 1 / questions), draws).astype(np.float64)
    )
    found = np.array([compute(weights) for weights in drawn])
    found = found[np.isfinite(found)]
    if len(found) < 0.95 * draws or not math.isfinite(value):
        return Estimate(value)
    low, high = np.quantile(found, [alpha / 2, 1 - alpha / 2]).tolist()
    error = float(found.std()) * math.sqrt(questions / (questions - 1))
    far = float(distributions.t(questions - 1).ppf(1 - alpha / 2)) * error
    return Estimate(value, min(low, value - far), max(high, value + far), error)


def of_each(questions: Sequence[str], values: ArrayLike) -> dict[str, Floats]:
    """The values [n] by their question."""
    names, data = np.asarray(questions), np.asarray(values, np.float64)
    return {str(name): data[names == name] for name in np.unique(names)}


def questions_of(*answers: Answers) -> int:
    """How many questions have an answer."""
    return len({question for some in answers for question, _ in some})
