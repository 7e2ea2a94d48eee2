"""What share of high-entropy and of low-entropy positions are forks, verified by resampling?"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from forkpoint_clients.evaluate.stats import ALPHA, Estimate, TwoShares, two_shares
from forkpoint_clients.findings import plots
from forkpoint_clients.findings.base import Figure, Finding, Result
from forkpoint_clients.findings.lab import BASELINE, Lab, LabSetting
from forkpoint_clients.findings.measures import share
from forkpoint_clients.findings.reading import EntropyTrace, traces
from forkpoint_clients.findings.verdict import Claim, Criterion, Form

TOP = 0.2
HIGH, LOW = 3, 12
"""The number of positions of each kind tested in a text; most low ones have no alternative, and cost nothing."""

MIN_PROBABILITY = LabSetting.min_probability

BINS = (0.0, 0.01, 0.1, 0.3, 0.6, 1.0, 1.5, 99.0)
"""Bins of entropy in nats, for the plot."""


@dataclass(frozen=True)
class TestedPosition:
    """A tested position: whether it is in the top fifth, its entropy (nats), if it is verified, the second token's
    probability.
    """

    question: str
    high: bool
    entropy: float
    verified: bool
    second: float


async def retest(lab: Lab) -> Result:
    items = lab.setting.verified
    finished = [trace for trace in traces((await lab.ask([BASELINE], items, 1))[BASELINE.name]) if trace.finished]
    positions, threshold = choose_positions(finished, lab.setting.seed)
    texts = {trace.question: trace for trace in finished}
    verified = await lab.verify(positions, texts)
    tested = list(tested_positions(verified, texts, threshold))
    # a fixed share of more questions is verified; a share of those is finished and has positions
    each = lab.setting.verify_every * len(items) / max(1, len({position.question for position in tested}))
    return conclude(tested, threshold, lab.setting.continuations, each=each)


def choose_positions(texts: Sequence[EntropyTrace], seed: int) -> tuple[dict[str, list[int]], float]:
    """Random reasoning positions, HIGH above the 80th percentile of all entropies and LOW below; that percentile
    (nats).
    """
    if not texts:
        return {}, float("nan")
    threshold = float(np.quantile(np.concatenate([trace.entropies[trace.in_reasoning] for trace in texts]), 1 - TOP))
    positions = {}
    for trace in texts:
        rng = random.Random(f"{seed} {trace.question}")
        inside = np.flatnonzero(trace.in_reasoning)
        above = inside[trace.entropies[inside] > threshold].tolist()
        below = inside[trace.entropies[inside] <= threshold].tolist()
        sampled = rng.sample(above, min(HIGH, len(above))) + rng.sample(below, min(LOW, len(below)))
        if sampled:
            positions[trace.question] = sorted(sampled)
    return positions, threshold


def tested_positions(
    verified: Mapping[str, Sequence[Mapping[str, Any]]], texts: Mapping[str, EntropyTrace], threshold: float
) -> Sequence[TestedPosition]:
    """The verified positions, without those where the server tokenised the text differently than it was generated."""
    return [
        TestedPosition(
            question,
            position["entropy"] > threshold,
            position["entropy"],
            bool(position["verified"]["verified"]),
            position["alternatives"][1]["probability"],
        )
        for question, positions in verified.items()
        for position in positions
        if position["index"] < len(texts[question].tokens)
        and position["token"] == texts[question].tokens[position["index"]]
    ]


def conclude(
    tested: Sequence[TestedPosition], threshold: float, continuations: int, alpha: float = ALPHA, each: float = 1.0
) -> Result:
    """`each` is the number of questions sent per question whose text was verified."""
    count = len({position.question for position in tested})
    groups = {"high": [one for one in tested if one.high], "low": [one for one in tested if not one.high]}
    by_entropy = [
        (
            (low + min(high, 2.5)) / 2,
            share([position.verified for position in here], [position.question for position in here]),
        )
        for low, high in pairwise(BINS)
        if (here := [position for position in tested if low <= position.entropy < high])
    ]
    return Result(
        claims(tested, alpha, each),
        figures=(
            *(
                Figure(
                    f"verified, of {len(group)} {kind}-entropy positions",
                    share([position.verified for position in group], [position.question for position in group]),
                    "percent",
                )
                for kind, group in groups.items()
            ),
            *(
                Figure(
                    f"{kind}-entropy positions with a second token of at least {100 * MIN_PROBABILITY:g}%",
                    share(
                        [position.second >= MIN_PROBABILITY for position in group],
                        [position.question for position in group],
                    ),
                    "percent",
                )
                for kind, group in groups.items()
            ),
        ),
        plots=(
            plots.curves(
                "fork-validity",
                "The share of tried positions that are verified forks, by entropy.",
                {"verified": by_entropy},
                "entropy, nats",
                "verified, %",
                100,
                "bars",
            ),
        ),
        notes=(
            (
                f"{count} texts were tested, about one for every {each:.3g} questions; the number of questions needed "
                "accounts for that."
            ),
            (
                f"High is above {threshold:.3f} nats, the 80th percentile of these texts. {continuations} "
                "continuations of each alternative find only forks that change the outcome much: the shares are lower "
                "bounds."
            ),
            (
                f"Only tokens with a probability of at least {MIN_PROBABILITY:g} are alternatives: a token that the "
                "model would hardly ever sample derails the text, which proves nothing. A position with a single such "
                "token does not count as a fork."
            ),
        ),
    )


def claims(tested: Sequence[TestedPosition], alpha: float = ALPHA, each: float = 1.0) -> tuple[Claim, Claim]:
    """Are high-entropy positions forks more often than others, and are most forks among them?"""
    count = len({position.question for position in tested})
    compared = _compared([one for one in tested if one.high], [one for one in tested if not one.high], alpha)

    def criterion(what: str, estimate: Estimate, bound: float, form: Form) -> Criterion:
        return Criterion(what, estimate, "above", bound, count, form, alpha, each)

    return (
        Claim(
            "High-entropy positions are forks more often than low-entropy positions are.",
            "arXiv:2506.01939",
            (
                criterion(
                    "verified share of high-entropy positions, less that of the others",
                    compared.difference,
                    0.0,
                    "points",
                ),
            ),
        ),
        Claim(
            "Most verified forks lie in the top fifth by entropy.",
            "published resampling data: 72% of 645 forks of Llama-3-8B-Instruct, 52% of 132 of R1-Distill-Llama-8B",
            (criterion("verified forks that lie in the top fifth", _share_in_top(compared.ratio), 0.5, "percent"),),
            headline=False,
        ),
    )


def _compared(high: Sequence[TestedPosition], low: Sequence[TestedPosition], alpha: float) -> TwoShares:
    """The verified shares of both kinds; unknown if one of them has no positions."""
    if not high or not low:
        return TwoShares(Estimate(math.nan), Estimate(math.nan))
    texts = [position.question for position in high], [position.question for position in low]
    return two_shares([position.verified for position in high], [position.verified for position in low], texts, alpha)


def _share_in_top(ratio: Estimate) -> Estimate:
    """The share of all forks that lie in the top fifth, if its positions are forks `ratio` times as often as others."""

    def share_at(times: float) -> float:
        return 1.0 if times == math.inf else TOP * times / (TOP * times + 1 - TOP)

    return Estimate(share_at(ratio.value), share_at(ratio.low), share_at(ratio.high))


FINDING = Finding(
    name="fork-validity",
    question="What share of high-entropy positions are verified forks?",
    claim="High-entropy tokens are forks, which steer the reasoning.",
    source="arXiv:2506.01939",
    protocol=(
        f"The texts of a fifth of the questions, at least ten, are tested: {HIGH} random positions of the reasoning in "
        f"the top fifth by entropy, and {LOW} others. At each, POST /v1/forks continues the text from the two "
        f"likeliest tokens if both have a probability of at least {MIN_PROBABILITY:g}. A position is a verified fork "
        "if the answers differ (Fisher's exact or chi-square test, false-discovery rate 5% within the text). The "
        "embedded model is tested on easy puzzles, because each position takes dozens of continuations."
    ),
    retest=retest,
)
