"""What the answers of a run say: each arm's figures, and its differences to the first arm, paired by question and seed."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from forkpoint_clients.evaluate import stats
from forkpoint_clients.evaluate.asker import Answer
from forkpoint_clients.evaluate.datasets import Item
from forkpoint_clients.evaluate.journal import Unit
from forkpoint_clients.evaluate.scorers import Scorer, ScorerError
from forkpoint_clients.evaluate.stats import EqualMeanComparison, Estimate, ScoredLengths

CAPS = 24
"""How many length caps are looked at, evenly spaced up to the longest answer."""
SCORERS_AT_ONCE = 8


@dataclass(frozen=True)
class ScoredAnswer:
    """An answer with its score from 0 to 1; None where the server refused the question or the scorer failed, as `failure` says."""

    answer: Answer
    score: float | None
    failure: str | None = None


@dataclass(frozen=True)
class ArmFigures:
    """Means over an arm's answers.

    `truncated` is the share that was cut off, `effect` the expected number of changed tokens per answer. `reasoning_tokens`,
    `effect`, `fired` and `mean_entropy` (nats) are None where no server told.
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


@dataclass(frozen=True)
class AtCap:
    """The share that is right when every text is cut off at `cap` tokens: of each arm, and its difference to the first one's.

    Of arms with one request an answer only; where the first is none of these, there are no differences.
    """

    cap: int
    mean_tokens: Mapping[str, float]
    correct: Mapping[str, Estimate]
    differences: Mapping[str, Estimate]


@dataclass(frozen=True)
class Difference:
    """An arm less the first one, over `pairs` answers to the same question with the same seed, of `questions` questions.

    `correct_p_holm` is corrected for the number of arms. `equal_mean` compares the scores at the same mean number of tokens.
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
    """All that a report shows. `asked` answers make the whole run; `failures` counts what went wrong, by what was said.

    The arms of `several` took several requests for an answer. What a shorter limit would have left of these is not known, as their
    tokens are those of whole trees: `caps` are without them.
    """

    asked: int
    answered: int
    questions: int
    arms: Sequence[ArmFigures]
    differences: Sequence[Difference]
    caps: Sequence[AtCap]
    failures: Mapping[str, int] = field(default_factory=dict)
    several: Sequence[str] = ()

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it: what is not known is null."""
        found: dict[str, Any] = _without_nan(asdict(self))
        return found


def score(answers: Mapping[Unit, Answer], items: Sequence[Item], scorer: Scorer) -> dict[Unit, ScoredAnswer]:
    """Score every answer, several at once; a scorer that fails marks the answer."""
    by_id = {item.id: item for item in items}

    def one(unit: Unit) -> ScoredAnswer:
        return scored(answers[unit], by_id[unit.question], scorer)

    with ThreadPoolExecutor(SCORERS_AT_ONCE) as pool:
        return dict(zip(answers, pool.map(one, answers), strict=True))


def scored(answer: Answer, item: Item, scorer: Scorer) -> ScoredAnswer:
    if answer.error is not None:
        return ScoredAnswer(answer, None, f"the server: {answer.error}")
    try:
        return ScoredAnswer(answer, scorer.score(item, answer.text))
    except ScorerError as error:
        return ScoredAnswer(answer, None, f"the scorer: {error}")


def compare(
    answers: Mapping[Unit, ScoredAnswer],
    arms: Sequence[str],
    asked: int,
    at_equal_length: bool = True,
    several: Collection[str] = (),
) -> Comparison:
    """The figures of all arms, with differences to the first; what is compared at equal length takes the longest.

    `several` are arms of which it is known that an answer takes several requests; those whose answers say so are found here.
    """
    of_arm: dict[str, dict[tuple[str, int], ScoredAnswer]] = {arm: {} for arm in arms}
    failures: dict[str, int] = {}
    for unit, one in answers.items():
        of_arm[unit.arm][unit.question, unit.sample] = one
        if one.failure is not None:
            failures[one.failure] = failures.get(one.failure, 0) + 1
    trees = [arm for arm in arms if arm in several or any(_branched(one.answer) for one in of_arm[arm].values())]
    single = [arm for arm in arms if arm not in trees]
    differences = [_difference(arm, of_arm[arm], arms[0], of_arm[arms[0]], at_equal_length) for arm in arms[1:]]
    return Comparison(
        asked,
        len(answers),
        len({unit.question for unit in answers}),
        [figures(arm, of_arm[arm]) for arm in arms],
        _corrected(differences),
        _caps({arm: of_arm[arm] for arm in single}, arms[0]) if at_equal_length and single else [],
        dict(sorted(failures.items(), key=lambda one: -one[1])),
        trees,
    )


def _branched(answer: Answer) -> bool:
    """Whether the answer says that it took several requests."""
    told = answer.forkpoint or {}
    return bool(told.get("branches")) or bool(told.get("interventions", {}).get("probe", {}).get("fired"))


def figures(arm: str, answers: Mapping[tuple[str, int], ScoredAnswer]) -> ArmFigures:
    """An arm by itself."""
    came = {key: one for key, one in answers.items() if one.answer.error is None}
    right = {key: one.score for key, one in came.items() if one.score is not None}

    def average(read: Callable[[Answer], float | None]) -> float | None:
        found = [value for one in came.values() if (value := read(one.answer)) is not None]
        return float(np.mean(found)) if found else None

    return ArmFigures(
        arm,
        len(answers),
        len(answers) - len(came),
        len(came) - len(right),
        stats.proportion(list(right.values()), [question for question, _ in right]) if right else None,
        _mean(came, lambda answer: answer.tokens),
        _mean(came, lambda answer: answer.reasoning_tokens),
        _share(came),
        average(lambda answer: answer.latency_seconds),
        average(lambda answer: answer.effect),
        average(_fired),
        average(lambda answer: (answer.forkpoint or {}).get("mean_entropy")),
    )


def _mean(answers: Mapping[tuple[str, int], ScoredAnswer], read: Callable[[Answer], float | None]) -> Estimate | None:
    found = {key: value for key, one in answers.items() if (value := read(one.answer)) is not None}
    return stats.mean(list(found.values()), [question for question, _ in found]) if found else None


def _share(answers: Mapping[tuple[str, int], ScoredAnswer]) -> Estimate | None:
    return (
        stats.proportion([_cut(one) for one in answers.values()], [question for question, _ in answers])
        if answers
        else None
    )


def _cut(one: ScoredAnswer) -> float:
    return float(one.answer.finish_reason == "length")


def _fired(answer: Answer) -> float | None:
    return (
        None
        if answer.forkpoint is None
        else sum(one["fired"] for one in answer.forkpoint.get("interventions", {}).values())
    )


def _difference(
    arm: str,
    own: Mapping[tuple[str, int], ScoredAnswer],
    to: str,
    other: Mapping[tuple[str, int], ScoredAnswer],
    at_equal_length: bool,
) -> Difference:
    came = [key for key in own if key in other and own[key].answer.error is None and other[key].answer.error is None]
    pairs = [key for key in came if own[key].score is not None and other[key].score is not None]

    def paired(
        keys: Sequence[tuple[str, int]], read: Callable[[ScoredAnswer], float | None], bound: float | None
    ) -> Estimate | None:
        found = {key: (read(own[key]), read(other[key])) for key in keys}
        differences = {
            key: mine - theirs for key, (mine, theirs) in found.items() if mine is not None and theirs is not None
        }
        return (
            stats.mean(list(differences.values()), [question for question, _ in differences], bound=bound)
            if differences
            else None
        )

    return Difference(
        arm,
        to,
        len(pairs),
        len({question for question, _ in pairs}),
        paired(pairs, lambda one: one.score, 1.0),
        math.nan,
        paired(came, lambda one: one.answer.tokens, None),
        paired(came, lambda one: one.answer.reasoning_tokens, None),
        paired(came, _cut, 1.0),
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
    """With the p-values of the scores corrected for the number of arms."""
    known = [one.arm for one in differences if one.correct is not None and not math.isnan(one.correct.p)]
    tested = {one.arm: one.correct.p for one in differences if one.correct is not None and one.arm in known}
    corrected = dict(zip(tested, stats.holm(list(tested.values()))[1], strict=True))
    return [Difference(**{**vars(one), "correct_p_holm": corrected.get(one.arm, math.nan)}) for one in differences]


def _caps(of_arm: Mapping[str, Mapping[tuple[str, int], ScoredAnswer]], first: str) -> list[AtCap]:
    """Only questions and seeds that every arm has a score of, so that the curves are of the same ones."""
    arms = list(of_arm)
    common = [
        key for key in of_arm[arms[0]] if all(key in one and one[key].score is not None for one in of_arm.values())
    ]
    if not common:
        return []
    questions = [question for question, _ in common]
    lengths = {arm: _lengths(of_arm[arm], common) for arm in arms}
    longest = max(float(one.tokens.max()) for one in lengths.values())
    found = []
    for cap in sorted({math.ceil(longest * step / CAPS) for step in range(1, CAPS + 1)}):
        scores = {arm: lengths[arm].capped(cap) for arm in arms}
        correct = {arm: stats.proportion(scores[arm], questions) for arm in arms}
        others = [arm for arm in arms if arm != first] if first in scores else []
        differences = {arm: stats.mean(scores[arm] - scores[first], questions, bound=1.0) for arm in others}
        mean_tokens = {arm: float(np.minimum(one.tokens, cap).mean()) for arm, one in lengths.items()}
        found.append(AtCap(cap, mean_tokens, correct, differences))
    return found


def _without_nan(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_nan(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
