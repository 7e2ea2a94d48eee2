"""Does branching at forks beat independent samples with as many tokens, and branching at random positions?"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from forkpoint_clients.evaluate import formatting
from forkpoint_clients.evaluate.stats import ALPHA, Estimate, Floats, bootstrap_difference, bootstrap_weights
from forkpoint_clients.findings import plots
from forkpoint_clients.findings.base import Figure, Finding, Result, Table
from forkpoint_clients.findings.lab import BASELINE, Answers, Lab, Treatment
from forkpoint_clients.findings.measures import clustered, share
from forkpoint_clients.findings.verdict import Claim, Criterion
from forkpoint_policies.spec.answer_extractors import extractor

Measure = Callable[[Sequence[float], Sequence[str | None]], float]
"""The value of several answers to one question, from their scores and their extracted answers."""

TREE, PLACEBO = "branch-at-forks", "branch-at-forks.placebo"
RULE = {"when": {"entropy_above": "fork", "region": "reasoning"}, "do": {"branch": {"fill": "none"}}}
"""The rule of `branch-at-forks`, without the independent samples that fill it up: it is compared with such."""
POLICIES: Mapping[str, Mapping[str, Any]] = {
    TREE: {"rules": [RULE]},
    PLACEBO: {"rules": [{"do": {"control": {"like": RULE, "match": "positions"}}}]},
}
PASS, MAJORITY = "one of them right", "majority right"
HEADER = ("arm", "measure", "as many as", "tokens", "right", "less as many samples, 97.5%")


@dataclass(frozen=True)
class ScoredRequest:
    """One request: the score and extracted text of each answer (None if truncated), and the tokens of all together."""

    scores: tuple[float, ...]
    answers: tuple[str | None, ...]
    tokens: float


@dataclass(frozen=True)
class TreeValue:
    """The value of trees' answers, by (question, sample); `equal` independent samples cost their mean `tokens`.

    The interval of `gain` accounts for both costs being means of these questions only.
    """

    values: Mapping[tuple[str, int], float]
    tokens: float
    equal: float
    gain: Estimate


async def retest(lab: Lab) -> Result:
    """Request independent samples, trees and their placebos, and compare them."""
    leaves = lab.setting.leaves
    independent = (await lab.ask([BASELINE], samples=max(leaves, lab.setting.samples)))[BASELINE.name]
    trees = await lab.ask([Treatment(name, policy, answers=leaves) for name, policy in POLICIES.items()])
    return conclude(independent, trees, leaves, lab.setting.extract)


def conclude(
    independent: Answers, trees: Mapping[str, Answers], leaves: int, extract: str, alpha: float = ALPHA
) -> Result:
    """`independent` holds `leaves` samples of each question; `trees` the answers of TREE and PLACEBO."""
    half = alpha / 2
    samples = _first_samples(_scored(independent, extract), leaves)
    if not samples:
        return Result((), notes=(f"No question has {leaves} independent answers.",))
    mean_tokens = float(np.mean([answer.tokens for answers in samples.values() for answer in answers]))
    # both measures: trees beside curves of independent samples
    values: dict[str, dict[str, TreeValue]] = {}
    rows: list[tuple[str, ...]] = []
    for measure, value in MEASURES.items():
        curves = {question: _sample_curve(answers, value) for question, answers in samples.items()}
        values[measure] = {
            name: _tree_value(_scored(answers, extract), samples, curves, value, leaves, half)
            for name, answers in trees.items()
        }
        rows += [
            ("independent samples", measure, f"{count}", f"{count * mean_tokens:.0f}", f"{100 * right:.1f}%", "")
            for count, right in enumerate(np.mean(list(curves.values()), axis=0), 1)
        ]
        rows += [_row(name, measure, tree) for name, tree in values[measure].items()]
    to_placebo = {
        measure: _paired(by_arm[TREE].values, by_arm[PLACEBO].values, half) for measure, by_arm in values.items()
    }
    claim = Claim(
        (
            "Branching where the entropy is high finds a right answer more often than independent samples of as many "
            "tokens."
        ),
        "arXiv:2510.11170, of EAGer, which moves budget between prompts too: 64% fewer tokens, 12% more pass@k",
        (
            Criterion(
                f"{PASS}, less independent samples of as many tokens",
                values[PASS][TREE].gain,
                "above",
                0,
                len(samples),
                "points",
                half,
            ),
            Criterion(
                f"{PASS}, less branches at random positions", to_placebo[PASS], "above", 0, len(samples), "points", half
            ),
        ),
    )
    shown = {f"{name}, {measure}": tree.gain for measure, by_arm in values.items() for name, tree in by_arm.items()}
    caption = "Trees less independent samples of as many tokens on average."
    return Result(
        (claim,),
        figures=(
            Figure(
                f"{MAJORITY}, less independent samples of as many tokens (97.5%)",
                values[MAJORITY][TREE].gain,
                "points",
            ),
            Figure(f"{MAJORITY}, less branches at random positions (97.5%)", to_placebo[MAJORITY], "points"),
        ),
        tables=(Table(f"{leaves} answers to a question", HEADER, tuple(rows)),),
        plots=(plots.intervals("branching", caption, shown, "difference, points", 100),),
        notes=(
            (
                "Tokens are all that were generated, each shared one once. Independent samples are counted with as "
                "many answers as cost the same on average, between two numbers in proportion, and at most with "
                f"{leaves}."
            ),
        ),
    )


def _scored(answers: Answers, extract: str) -> dict[tuple[str, int], ScoredRequest]:
    """The requests whose answers all have a score: the value of the others is unknown."""
    read = extractor(extract)
    return {
        key: ScoredRequest(
            scores,
            tuple(read(choice.text) if choice.finish_reason == "stop" else None for choice in scored.answer.choices),
            scored.tokens,
        )
        for key, scored in answers.items()
        if scored.scores
        and len(scores := tuple(score for score in scored.scores if score is not None)) == len(scored.scores)
    }


def _first_samples(independent: Mapping[tuple[str, int], ScoredRequest], leaves: int) -> dict[str, list[ScoredRequest]]:
    """The first `leaves` samples of each question that has that many."""
    by_question: dict[str, list[ScoredRequest]] = {}
    for question, sample in sorted(independent):
        by_question.setdefault(question, []).append(independent[question, sample])
    return {question: answers[:leaves] for question, answers in by_question.items() if len(answers) >= leaves}


def _tree_value(
    tree: Mapping[tuple[str, int], ScoredRequest],
    samples: Mapping[str, Sequence[ScoredRequest]],
    curves: Mapping[str, Sequence[float]],
    measure: Measure,
    leaves: int,
    alpha: float,
) -> TreeValue:
    requests = {key: request for key, request in tree.items() if key[0] in curves}
    if not requests:
        return TreeValue({}, math.nan, math.nan, Estimate(math.nan))
    values = {key: measure(request.scores, request.answers) for key, request in requests.items()}
    names = sorted({question for question, _ in requests})
    keys = {question: [key for key in requests if key[0] == question] for question in names}
    sums = np.array(
        [
            [
                len(keys[name]),
                sum(requests[key].tokens for key in keys[name]),
                sum(values[key] for key in keys[name]),
                len(keys[name]) * float(np.mean([answer.tokens for answer in samples[name]])),
                *(len(keys[name]) * point for point in curves[name]),
            ]
            for name in names
        ]
    )

    def gains(weights: Floats) -> tuple[Floats, Floats, Floats]:
        """Mean tokens, samples of equal cost, and the gain over them, [resamples] each, of weights [resamples,
        questions].
        """
        answers, spent, right, each, *curve = (weights @ sums).T
        equal = np.clip(spent / each, 1, leaves)
        counts = np.arange(1, leaves + 1)
        at_equal_cost = [np.interp(at, counts, points) for at, points in zip(equal, np.array(curve).T, strict=True)]
        return spent / answers, equal, (right - at_equal_cost) / answers

    (tokens,), (equal,), (gain,) = gains(np.ones((1, len(names))))
    resampled = gains(bootstrap_weights(len(names)))[2] if len(names) > 1 else np.zeros(0)
    return TreeValue(
        values, float(tokens), float(equal), bootstrap_difference(float(gain), resampled, len(names), alpha)
    )


def _row(name: str, measure: str, tree: TreeValue) -> tuple[str, ...]:
    right = share(list(tree.values.values()), [key[0] for key in tree.values])
    return (
        name,
        measure,
        formatting.plain(tree.equal, 2),
        formatting.plain(tree.tokens, 0),
        formatting.percent(right),
        formatting.points(tree.gain),
    )


def passed(scores: Sequence[float], answers: Sequence[str | None]) -> float:
    """The best score of the finished answers: pass@k."""
    return max((score for score, answer in zip(scores, answers, strict=True) if answer is not None), default=0.0)


def majority(scores: Sequence[float], answers: Sequence[str | None]) -> float:
    """The score of the most frequent answer; ties share equally."""
    votes = Counter(answer for answer in answers if answer is not None)
    if not votes:
        return 0.0
    max_votes = max(votes.values())
    winners = [winner for winner, count in votes.items() if count == max_votes]
    of_winner = (
        [score for score, answer in zip(scores, answers, strict=True) if answer == winner] for winner in winners
    )
    return float(np.mean([np.mean(winner_scores) for winner_scores in of_winner]))


def _sample_curve(samples: Sequence[ScoredRequest], measure: Measure) -> list[float]:
    """The value of 1, 2, … independent answers, averaged over all subsets of that size."""
    curve = []
    for count in range(1, len(samples) + 1):
        values = [
            measure([answer.scores[0] for answer in subset], [answer.answers[0] for answer in subset])
            for subset in combinations(samples, count)
        ]
        curve.append(float(np.mean(values)))
    return curve


def _paired(own: Mapping[tuple[str, int], float], other: Mapping[tuple[str, int], float], alpha: float) -> Estimate:
    keys: list[tuple[str, int]] = [key for key in own if key in other]
    values: Floats = np.array([own[key] - other[key] for key in keys])
    return clustered(values, [key[0] for key in keys], alpha, bound=1.0)


MEASURES: Mapping[str, Measure] = {PASS: passed, MAJORITY: majority}

FINDING = Finding(
    name="branching",
    question="Is branching at forks worth its tokens?",
    claim="Branching only where the entropy is high gives more right answers for fewer tokens than sampling.",
    source="arXiv:2510.11170",
    protocol=(
        "`branch-at-forks` with several answers to each question and no samples among them (`fill`: `none`), against "
        "independent samples of as many tokens on average, and against its placebo, which branches as often at random "
        "positions. Right is one of the answers (pass@k), or the majority's."
    ),
    retest=retest,
)
