"""Is branching at forks worth more than independent samples of as many tokens, and than branching anywhere?"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations

import numpy as np
from forkpoint_policies.extractors import extractor

from .. import wording
from ..retest import drawing
from ..retest.finding import Figure, Finding, Result, Table
from ..retest.lab import BASE, Answers, Arm, Lab
from ..retest.measures import clustered
from ..retest.reading import Reading
from ..retest.verdict import Claim, Part
from ..stats import ALPHA, Estimate, Floats

Worth = Callable[[Sequence[float], Sequence[str | None]], float]
"""Of some answers to one question, from their scores and from what each says."""


async def retest(lab: Lab) -> Result:
    leaves = lab.setting.leaves
    independent = (await lab.ask([BASE], samples=max(leaves, lab.setting.samples)))[BASE.name]
    trees = await lab.ask([Arm("branch", "branch", answers=leaves), Arm("branch.placebo", "branch.placebo", answers=leaves)])
    return conclude(independent, trees, leaves, lab.setting.extract)


def conclude(independent: Answers, trees: Mapping[str, Answers], leaves: int, extract: str, alpha: float = ALPHA) -> Result:
    said = extractor(extract)

    def read(reading: Reading) -> tuple[list[float], list[str | None]]:
        """What was cut off says nothing."""
        choices = reading.answer.choices
        answers = [said(one.text) if one.finish_reason == "stop" else None for one in choices]
        return [score or 0.0 for score in reading.scores], answers

    alone: dict[str, list[tuple[float, str | None, float]]] = {}
    for (question, _), one in sorted(independent.items()):
        if one.scores:
            scores, answers = read(one)
            alone.setdefault(question, []).append((scores[0], answers[0], one.tokens))
    alone = {question: some[:leaves] for question, some in alone.items() if len(some) >= leaves}
    each = float(np.mean([one[2] for some in alone.values() for one in some])) if alone else math.nan
    figures: dict[tuple[str, str], dict[tuple[str, int], float]] = {}
    gains: dict[tuple[str, str], Estimate] = {}
    rows = []
    for measure, worth in (("one of them right", passed), ("majority right", majority)):
        curves = {question: _curve(some, worth) for question, some in alone.items()}
        for name, answers in trees.items():
            found = {key: worth(*read(one)) for key, one in answers.items() if key[0] in alone and one.scores}
            figures[name, measure] = found
            equal = _as_many(answers, found, each, leaves)
            gains[name, measure] = clustered(
                [value - _between(curves[key[0]], equal) for key, value in found.items()],
                [key[0] for key in found],
                alpha / 2,
                bound=1.0,
            )
        rows += [
            (
                "independent samples",
                measure,
                f"{count}",
                f"{count * each:.0f}",
                f"{100 * np.mean([one[count - 1] for one in curves.values()]):.1f} %",
                "",
            )
            for count in range(1, leaves + 1)
            if alone
        ]
    for (name, measure), found in figures.items():
        mean_tokens = float(np.mean([trees[name][key].tokens for key in found])) if found else math.nan
        rows.append(
            (
                name,
                measure,
                wording.plain(_as_many(trees[name], found, each, leaves), 2),
                f"{mean_tokens:.0f}",
                wording.percent(clustered(list(found.values()), [key[0] for key in found], bound=1.0)),
                wording.points(gains[name, measure]),
            )
        )
    count = len(alone)
    against = {
        measure: _less(figures["branch", measure], figures["branch.placebo", measure], alpha / 2)
        for measure in ("one of them right", "majority right")
    }
    claim = Claim(
        "Branching where the entropy is high finds a right answer more often than independent samples of as many tokens.",
        "arXiv:2510.11170: 64 % fewer tokens, up to 12 % more pass@k",
        (
            Part(
                "one of them right, less independent samples of as many tokens",
                gains["branch", "one of them right"],
                "above",
                0.0,
                count,
                "points",
                alpha / 2,
            ),
            Part(
                "one of them right, less branches at random positions",
                against["one of them right"],
                "above",
                0.0,
                count,
                "points",
                alpha / 2,
            ),
        ),
    )
    shown = {f"{name}, {measure}": one for (name, measure), one in gains.items()}
    return Result(
        (claim,),
        figures=(
            Figure(
                "majority right, less independent samples of as many tokens (97.5 %)", gains["branch", "majority right"], "points"
            ),
            Figure("majority right, less branches at random positions (97.5 %)", against["majority right"], "points"),
        ),
        tables=(
            Table(
                f"{leaves} answers to a question",
                ("arm", "measure", "as many as", "tokens", "right", "less as many samples, 97.5 %"),
                tuple(rows),
            ),
        ),
        plots=(
            drawing.intervals(
                "branching", "Trees less independent samples of as many tokens on average.", shown, "difference, points", 100
            ),
        ),
        notes=(
            (
                "Tokens are all that were generated, each shared one once. Independent samples are counted with as many "
                "answers as cost the same on average, between two numbers in proportion."
            ),
        ),
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
        np.mean([np.mean([score for score, one in zip(scores, answers, strict=True) if one == answer]) for answer in winners])
    )


def _curve(some: Sequence[tuple[float, str | None, float]], worth: Worth) -> list[float]:
    """What 1, 2, … of the independent answers are worth, on average over which."""
    return [
        float(np.mean([worth([one[0] for one in chosen], [one[1] for one in chosen]) for chosen in combinations(some, count)]))
        for count in range(1, len(some) + 1)
    ]


def _as_many(answers: Answers, found: Mapping[tuple[str, int], float], each: float, leaves: int) -> float:
    """How many independent answers cost what a tree does."""
    return float(np.clip(np.mean([answers[key].tokens for key in found]) / each, 1, leaves)) if found else math.nan


def _between(curve: Sequence[float], count: float) -> float:
    return float(np.interp(count, np.arange(1, len(curve) + 1), curve))


def _less(one: Mapping[tuple[str, int], float], other: Mapping[tuple[str, int], float], alpha: float) -> Estimate:
    keys: list[tuple[str, int]] = [key for key in one if key in other]
    values: Floats = np.array([one[key] - other[key] for key in keys])
    return clustered(values, [key[0] for key in keys], alpha, bound=1.0)


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
