"""Is branching at forks worth more than independent samples of as many tokens, and than branching anywhere?"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from forkpoint_clients.evaluate import formatting
from forkpoint_clients.evaluate.stats import ALPHA, Estimate, Floats, drawings, of_draws
from forkpoint_clients.findings import plots
from forkpoint_clients.findings.base import Figure, Finding, Result, Table
from forkpoint_clients.findings.lab import BASELINE, Answers, Lab, Treatment
from forkpoint_clients.findings.measures import clustered, share
from forkpoint_clients.findings.verdict import Claim, Criterion
from forkpoint_policies.spec.answer_extractors import extractor

Worth = Callable[[Sequence[float], Sequence[str | None]], float]
"""Of some answers to one question, from their scores and from what each says."""

TREE, PLACEBO = "branch", "branch.placebo"
ANY, MOST = "one of them right", "majority right"
HEADER = ("arm", "measure", "as many as", "tokens", "right", "less as many samples, 97.5 %")


@dataclass(frozen=True)
class ScoredRequest:
    """One request: what each of its answers scores and says (None where it was cut off), and the tokens of all together."""

    scores: tuple[float, ...]
    answers: tuple[str | None, ...]
    tokens: float


@dataclass(frozen=True)
class TreeValue:
    """What a tree's answers are worth, by (question, sample); `equal` is how many independent samples cost its mean `tokens`.

    The interval of `gain` allows for both costs being means of these questions only.
    """

    worth: Mapping[tuple[str, int], float]
    tokens: float
    equal: float
    gain: Estimate


async def retest(lab: Lab) -> Result:
    leaves = lab.setting.leaves
    independent = (await lab.ask([BASELINE], samples=max(leaves, lab.setting.samples)))[BASELINE.name]
    trees = await lab.ask([Treatment(name, name, answers=leaves) for name in (TREE, PLACEBO)])
    return conclude(independent, trees, leaves, lab.setting.extract)


def conclude(
    independent: Answers, trees: Mapping[str, Answers], leaves: int, extract: str, alpha: float = ALPHA
) -> Result:
    """`independent` answers have `leaves` samples of each question; `trees` are those of TREE and PLACEBO."""
    half = alpha / 2
    alone = _alone(_said(independent, extract), leaves)
    if not alone:
        return Result((), notes=(f"No question has {leaves} independent answers.",))
    each = float(np.mean([one.tokens for some in alone.values() for one in some]))
    found: dict[str, dict[str, TreeValue]] = {}
    rows: list[tuple[str, ...]] = []
    for measure, worth in MEASURES.items():
        curves = {question: _curve(some, worth) for question, some in alone.items()}
        found[measure] = {
            name: _measured(_said(answers, extract), alone, curves, worth, leaves, half)
            for name, answers in trees.items()
        }
        rows += [
            ("independent samples", measure, f"{count}", f"{count * each:.0f}", f"{100 * right:.1f} %", "")
            for count, right in enumerate(np.mean(list(curves.values()), axis=0), 1)
        ]
        rows += [_row(name, measure, one) for name, one in found[measure].items()]
    against = {measure: _less(some[TREE].worth, some[PLACEBO].worth, half) for measure, some in found.items()}
    claim = Claim(
        "Branching where the entropy is high finds a right answer more often than independent samples of as many tokens.",
        "arXiv:2510.11170: 64 % fewer tokens, up to 12 % more pass@k",
        (
            Criterion(
                f"{ANY}, less independent samples of as many tokens",
                found[ANY][TREE].gain,
                "above",
                0,
                len(alone),
                "points",
                half,
            ),
            Criterion(
                f"{ANY}, less branches at random positions", against[ANY], "above", 0, len(alone), "points", half
            ),
        ),
    )
    shown = {f"{name}, {measure}": one.gain for measure, some in found.items() for name, one in some.items()}
    caption = "Trees less independent samples of as many tokens on average."
    return Result(
        (claim,),
        figures=(
            Figure(f"{MOST}, less independent samples of as many tokens (97.5 %)", found[MOST][TREE].gain, "points"),
            Figure(f"{MOST}, less branches at random positions (97.5 %)", against[MOST], "points"),
        ),
        tables=(Table(f"{leaves} answers to a question", HEADER, tuple(rows)),),
        plots=(plots.intervals("branching", caption, shown, "difference, points", 100),),
        notes=(
            (
                "Tokens are all that were generated, each shared one once. Independent samples are counted with as many "
                f"answers as cost the same on average, between two numbers in proportion, and at most with {leaves}."
            ),
        ),
    )


def _said(answers: Answers, extract: str) -> dict[tuple[str, int], ScoredRequest]:
    """The requests all of whose answers have a score: of the others it is not known what they are worth."""
    read = extractor(extract)
    return {
        key: ScoredRequest(
            scores,
            tuple(read(choice.text) if choice.finish_reason == "stop" else None for choice in one.answer.choices),
            one.tokens,
        )
        for key, one in answers.items()
        if one.scores and len(scores := tuple(score for score in one.scores if score is not None)) == len(one.scores)
    }


def _alone(independent: Mapping[tuple[str, int], ScoredRequest], leaves: int) -> dict[str, list[ScoredRequest]]:
    """The first `leaves` samples of each question that has so many."""
    found: dict[str, list[ScoredRequest]] = {}
    for question, sample in sorted(independent):
        found.setdefault(question, []).append(independent[question, sample])
    return {question: some[:leaves] for question, some in found.items() if len(some) >= leaves}


def _measured(
    tree: Mapping[tuple[str, int], ScoredRequest],
    alone: Mapping[str, Sequence[ScoredRequest]],
    curves: Mapping[str, Sequence[float]],
    worth: Worth,
    leaves: int,
    alpha: float,
) -> TreeValue:
    here = {key: one for key, one in tree.items() if key[0] in curves}
    if not here:
        return TreeValue({}, math.nan, math.nan, Estimate(math.nan))
    own = {key: worth(one.scores, one.answers) for key, one in here.items()}
    names = sorted({question for question, _ in here})
    of = {question: [key for key in here if key[0] == question] for question in names}
    sums = np.array(
        [
            [
                len(of[name]),
                sum(here[key].tokens for key in of[name]),
                sum(own[key] for key in of[name]),
                len(of[name]) * float(np.mean([one.tokens for one in alone[name]])),
                *(len(of[name]) * value for value in curves[name]),
            ]
            for name in names
        ]
    )

    def gains(weights: Floats) -> tuple[Floats, Floats, Floats]:
        """Of weights [draws, questions]: the mean tokens, how many samples cost as much, and the gain over these; [draws] each."""
        answers, spent, right, each, *curve = (weights @ sums).T
        equal = np.clip(spent / each, 1, leaves)
        beside = [
            np.interp(at, np.arange(1, leaves + 1), one) for at, one in zip(equal, np.array(curve).T, strict=True)
        ]
        return spent / answers, equal, (right - beside) / answers

    (tokens,), (equal,), (gain,) = gains(np.ones((1, len(names))))
    drawn = gains(drawings(len(names)))[2] if len(names) > 1 else np.zeros(0)
    return TreeValue(own, float(tokens), float(equal), of_draws(float(gain), drawn, len(names), alpha))


def _row(name: str, measure: str, one: TreeValue) -> tuple[str, ...]:
    right = share(list(one.worth.values()), [key[0] for key in one.worth])
    return (
        name,
        measure,
        formatting.plain(one.equal, 2),
        formatting.plain(one.tokens, 0),
        formatting.percent(right),
        formatting.points(one.gain),
    )


def passed(scores: Sequence[float], answers: Sequence[str | None]) -> float:
    """Whether one of the answers that were finished is right; the best of their scores."""
    return max((score for score, answer in zip(scores, answers, strict=True) if answer is not None), default=0.0)


def majority(scores: Sequence[float], answers: Sequence[str | None]) -> float:
    """The score of the answer that most gave, ties in equal shares."""
    votes = Counter(answer for answer in answers if answer is not None)
    if not votes:
        return 0.0
    most = max(votes.values())
    winners = [answer for answer, times in votes.items() if times == most]
    return float(
        np.mean(
            [
                np.mean([score for score, one in zip(scores, answers, strict=True) if one == answer])
                for answer in winners
            ]
        )
    )


def _curve(some: Sequence[ScoredRequest], worth: Worth) -> list[float]:
    """What 1, 2, … of the independent answers are worth, on average over which."""
    found = []
    for count in range(1, len(some) + 1):
        drawn = [
            ([one.scores[0] for one in chosen], [one.answers[0] for one in chosen])
            for chosen in combinations(some, count)
        ]
        found.append(float(np.mean([worth(scores, answers) for scores, answers in drawn])))
    return found


def _less(one: Mapping[tuple[str, int], float], other: Mapping[tuple[str, int], float], alpha: float) -> Estimate:
    keys: list[tuple[str, int]] = [key for key in one if key in other]
    values: Floats = np.array([one[key] - other[key] for key in keys])
    return clustered(values, [key[0] for key in keys], alpha, bound=1.0)


MEASURES: Mapping[str, Worth] = {ANY: passed, MOST: majority}

FINDING = Finding(
    name="branching",
    question="Is branching at forks worth its tokens?",
    claim="Branching only where the entropy is high gives more right answers for fewer tokens than sampling.",
    source="arXiv:2510.11170",
    protocol=(
        "`branch` with several answers to each question, against independent samples of as many tokens on average, and "
        "against its placebo, which branches as often at random positions. Right is one of the answers (pass@k), or the "
        "majority's."
    ),
    retest=retest,
)
