"""Each arm's figures, and its differences from the first arm, paired by question and seed."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from forkpoint_clients.evaluate import stats
from forkpoint_clients.evaluate.asker import Answer
from forkpoint_clients.evaluate.datasets import Item
from forkpoint_clients.evaluate.doses import mean_dose
from forkpoint_clients.evaluate.formatting import without_nan
from forkpoint_clients.evaluate.journal import Unit
from forkpoint_clients.evaluate.scorers import Scorer, ScorerError
from forkpoint_clients.evaluate.stats import EqualMeanComparison, Estimate, ScoredLengths

from .run import completed_blocks

CAPS = 24
"""The number of length caps compared, evenly spaced up to the longest answer."""
MAX_PARALLEL_SCORERS = 8


@dataclass(frozen=True)
class ScoredAnswer:
    """An answer with its score from 0 to 1.

    The score is None if the server or the scorer failed; `failure` says how.
    """

    answer: Answer
    score: float | None
    failure: str | None = None


@dataclass(frozen=True)
class ArmFigures:
    """Means over an arm's answers.

    `truncated` is the share of truncated answers, `effect` the expected number of changed tokens per answer, `dose`
    that per token, `tokens_per_right` the generated tokens for each right answer. `reasoning_tokens`, `effect`, `dose`,
    `fired` and `mean_entropy` (nats) are None if no server reported them.
    """

    arm: str
    answers: int
    errors: int
    failed_scorers: int
    correct: Estimate | None
    tokens: Estimate | None
    reasoning_tokens: Estimate | None
    truncated: Estimate | None
    latency_seconds: float | None
    effect: float | None
    fired: float | None
    mean_entropy: float | None
    dose: float | None = None
    tokens_per_right: float | None = None


@dataclass(frozen=True)
class AtCap:
    """The share of right answers if every text were truncated at `cap` tokens, by arm, and its differences from the
    first arm.

    Only arms that take one request per answer are included. If the first arm is not, there are no differences.
    """

    cap: int
    mean_tokens: Mapping[str, float]
    correct: Mapping[str, Estimate]
    differences: Mapping[str, Estimate]


@dataclass(frozen=True)
class Difference:
    """An arm minus the first one, over `pairs` of answers to the same question with the same seed, of `questions`
    questions.

    `correct_p_holm` is corrected for the number of arms. `equal_mean` compares the scores at the same mean number of
    tokens.
    """

    arm: str
    to: str
    pairs: int
    questions: int
    correct: Estimate | None
    correct_p_holm: float
    tokens: Estimate | None
    reasoning_tokens: Estimate | None
    truncated: Estimate | None
    equal_mean: EqualMeanComparison | None


@dataclass(frozen=True)
class Comparison:
    """The content of a report. A complete run has `num_requested` answers; `failures` counts failures by their message.

    An answer of a `multi_request_arms` arm takes several requests. Its tokens are those of a whole tree, so what a
    shorter limit would have left of it is unknown: `caps` excludes these arms. If `interim`, the figures are of the
    first `compared` answers only, complete blocks of a question under all arms, and there are no p-values.
    """

    num_requested: int
    answered: int
    questions: int
    arms: Sequence[ArmFigures]
    differences: Sequence[Difference]
    caps: Sequence[AtCap]
    failures: Mapping[str, int] = field(default_factory=dict)
    multi_request_arms: Sequence[str] = ()
    interim: bool = False
    compared: int = 0

    def to_dict(self) -> dict[str, Any]:
        """The fields for JSON, with None for unknown figures."""
        names = {"num_requested": "asked", "multi_request_arms": "several"}
        return {names.get(name, name): without_nan(value) for name, value in asdict(self).items()}


def score(answers: Mapping[Unit, Answer], items: Sequence[Item], scorer: Scorer) -> dict[Unit, ScoredAnswer]:
    """Score every answer, several in parallel. If a scorer fails, its answer says so."""
    by_id = {item.id: item for item in items}

    def score_unit(unit: Unit) -> ScoredAnswer:
        return score_answer(answers[unit], by_id[unit.question], scorer)

    with ThreadPoolExecutor(MAX_PARALLEL_SCORERS) as pool:
        return dict(zip(answers, pool.map(score_unit, answers), strict=True))


def score_answer(answer: Answer, item: Item, scorer: Scorer) -> ScoredAnswer:
    """Score one answer; a failure of the server or the scorer is part of the result."""
    if answer.error is not None:
        return ScoredAnswer(answer, None, f"the server: {answer.error}")
    try:
        return ScoredAnswer(answer, scorer.score(item, answer.text))
    except ScorerError as error:
        return ScoredAnswer(answer, None, f"the scorer: {error}")


def compare(
    answers: Mapping[Unit, ScoredAnswer],
    arms: Sequence[str],
    num_requested: int,
    at_equal_length: bool = True,
    multi_request_arms: Collection[str] = (),
) -> Comparison:
    """The figures of all arms and the differences from the first; the comparison at equal length takes most of the
    time.

    `multi_request_arms` are arms known to take several requests per answer; arms whose answers report that are added.
    """
    of_arm: dict[str, dict[tuple[str, int], ScoredAnswer]] = {arm: {} for arm in arms}
    failures: dict[str, int] = {}
    answers = {unit: scored for unit, scored in answers.items() if unit.arm in of_arm}  # not those of added caps
    for unit, scored in answers.items():
        of_arm[unit.arm][unit.question, unit.sample] = scored
        if scored.failure is not None:
            failures[scored.failure] = failures.get(scored.failure, 0) + 1
    trees = [
        arm
        for arm in arms
        if arm in multi_request_arms or any(_branched(scored.answer) for scored in of_arm[arm].values())
    ]
    single = [arm for arm in arms if arm not in trees]
    differences = [_difference(arm, of_arm[arm], arms[0], of_arm[arms[0]], at_equal_length) for arm in arms[1:]]
    return Comparison(
        num_requested,
        len(answers),
        len({unit.question for unit in answers}),
        [figures(arm, of_arm[arm]) for arm in arms],
        _corrected(differences),
        _caps({arm: of_arm[arm] for arm in single}, arms[0]) if at_equal_length and single else [],
        dict(sorted(failures.items(), key=lambda failure: -failure[1])),
        trees,
        compared=len(answers),
    )


def compare_interim(
    answers: Mapping[Unit, ScoredAnswer],
    order: Sequence[Unit],
    arms: Sequence[str],
    num_requested: int,
    multi_request_arms: Collection[str] = (),
) -> Comparison:
    """The figures of a run that has not ended: of complete blocks only, without p-values.

    `order` are the units in the order of their requests. Looking at p-values repeatedly, or at the answers that ended
    first, would mislead.
    """
    complete = {unit: answers[unit] for unit in completed_blocks(order, answers)}
    found = compare(complete, arms, num_requested, False, multi_request_arms)
    return replace(
        found,
        answered=sum(unit in answers for unit in order),
        differences=[_without_p(difference) for difference in found.differences],
        interim=True,
    )


def _without_p(difference: Difference) -> Difference:
    estimates = {
        name: replace(estimate, p=math.nan)
        for name in ("correct", "tokens", "reasoning_tokens", "truncated")
        if (estimate := getattr(difference, name)) is not None
    }
    return replace(difference, correct_p_holm=math.nan, **estimates)


def _branched(answer: Answer) -> bool:
    """Whether the answer reports that it took several requests."""
    summary = answer.forkpoint or {}
    return bool(summary.get("branches")) or bool(summary.get("interventions", {}).get("probe", {}).get("fired"))


def figures(arm: str, answers: Mapping[tuple[str, int], ScoredAnswer]) -> ArmFigures:
    """The figures of one arm's answers, by (question, sample)."""
    completed = {key: scored for key, scored in answers.items() if scored.answer.error is None}
    scores = {key: scored.score for key, scored in completed.items() if scored.score is not None}

    def average(read: Callable[[Answer], float | None]) -> float | None:
        values = [value for scored in completed.values() if (value := read(scored.answer)) is not None]
        return float(np.mean(values)) if values else None

    return ArmFigures(
        arm,
        len(answers),
        len(answers) - len(completed),
        len(completed) - len(scores),
        stats.proportion(list(scores.values()), [question for question, _ in scores]) if scores else None,
        _mean(completed, lambda answer: answer.tokens),
        _mean(completed, lambda answer: answer.reasoning_tokens),
        _truncated_share(completed),
        average(lambda answer: answer.latency_seconds),
        average(lambda answer: answer.effect),
        average(_fired),
        average(lambda answer: (answer.forkpoint or {}).get("mean_entropy")),
        mean_dose(scored.answer for scored in completed.values()),
        _tokens_per_right(completed.values()),
    )


def _tokens_per_right(answers: Collection[ScoredAnswer]) -> float | None:
    """All tokens of scored answers, by the sum of their scores."""
    scored = [answer for answer in answers if answer.score is not None]
    right = sum(answer.score or 0.0 for answer in scored)
    return sum(answer.answer.tokens for answer in scored) / right if right else None


def _mean(answers: Mapping[tuple[str, int], ScoredAnswer], read: Callable[[Answer], float | None]) -> Estimate | None:
    values = {key: value for key, scored in answers.items() if (value := read(scored.answer)) is not None}
    return stats.mean(list(values.values()), [question for question, _ in values]) if values else None


def _truncated_share(answers: Mapping[tuple[str, int], ScoredAnswer]) -> Estimate | None:
    if not answers:
        return None
    return stats.proportion([_truncated(scored) for scored in answers.values()], [question for question, _ in answers])


def _truncated(scored: ScoredAnswer) -> float:
    return float(scored.answer.finish_reason == "length")


def _fired(answer: Answer) -> float | None:
    if answer.forkpoint is None:
        return None
    return float(sum(action["fired"] for action in answer.forkpoint.get("interventions", {}).values()))


def _difference(
    arm: str,
    own: Mapping[tuple[str, int], ScoredAnswer],
    to: str,
    other: Mapping[tuple[str, int], ScoredAnswer],
    at_equal_length: bool,
) -> Difference:
    completed = [
        key for key in own if key in other and own[key].answer.error is None and other[key].answer.error is None
    ]
    pairs = [key for key in completed if own[key].score is not None and other[key].score is not None]

    def paired(
        keys: Sequence[tuple[str, int]], read: Callable[[ScoredAnswer], float | None], bound: float | None
    ) -> Estimate | None:
        values = {key: (read(own[key]), read(other[key])) for key in keys}
        differences = {
            key: mine - theirs for key, (mine, theirs) in values.items() if mine is not None and theirs is not None
        }
        if not differences:
            return None
        return stats.mean(list(differences.values()), [question for question, _ in differences], bound=bound)

    return Difference(
        arm,
        to,
        len(pairs),
        len({question for question, _ in pairs}),
        paired(pairs, lambda scored: scored.score, 1.0),
        math.nan,
        paired(completed, lambda scored: scored.answer.tokens, None),
        paired(completed, lambda scored: scored.answer.reasoning_tokens, None),
        paired(completed, _truncated, 1.0),
        stats.at_equal_mean(_lengths(own, pairs), _lengths(other, pairs), [question for question, _ in pairs])
        if pairs and at_equal_length
        else None,
    )


def _lengths(answers: Mapping[tuple[str, int], ScoredAnswer], keys: Sequence[tuple[str, int]]) -> ScoredLengths:
    scores = [answers[key].score for key in keys]
    return ScoredLengths(
        np.array(scores, np.float64), np.array([answers[key].answer.tokens for key in keys], np.float64)
    )


def _corrected(differences: Sequence[Difference]) -> list[Difference]:
    """The differences with Holm's correction of the scores' p-values for the number of arms."""
    tested = {
        difference.arm: difference.correct.p
        for difference in differences
        if difference.correct is not None and not math.isnan(difference.correct.p)
    }
    corrected = dict(zip(tested, stats.holm(list(tested.values())), strict=True))
    return [replace(difference, correct_p_holm=corrected.get(difference.arm, math.nan)) for difference in differences]


def _caps(of_arm: Mapping[str, Mapping[tuple[str, int], ScoredAnswer]], first: str) -> list[AtCap]:
    """The comparison at each cap, over the questions and seeds that have a score in every arm."""
    arms = list(of_arm)
    common = [
        key
        for key in of_arm[arms[0]]
        if all(key in answers and answers[key].score is not None for answers in of_arm.values())
    ]
    if not common:
        return []
    questions = [question for question, _ in common]
    lengths = {arm: _lengths(of_arm[arm], common) for arm in arms}
    longest = max(float(arm_lengths.tokens.max()) for arm_lengths in lengths.values())
    at_caps = []
    for cap in sorted({math.ceil(longest * step / CAPS) for step in range(1, CAPS + 1)}):
        scores = {arm: lengths[arm].capped(cap) for arm in arms}
        correct = {arm: stats.proportion(scores[arm], questions) for arm in arms}
        others = [arm for arm in arms if arm != first] if first in scores else []
        differences = {arm: stats.mean(scores[arm] - scores[first], questions, bound=1.0) for arm in others}
        mean_tokens = {arm: float(np.minimum(lengths[arm].tokens, cap).mean()) for arm in arms}
        at_caps.append(AtCap(cap, mean_tokens, correct, differences))
    return at_caps
