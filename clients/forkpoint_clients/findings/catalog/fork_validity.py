"""What share of high-entropy and of low-entropy positions are forks, verified by resampling?"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

from forkpoint_clients.evaluate.stats import ALPHA, Estimate, Floats, bounded_difference
from forkpoint_clients.findings import plots
from forkpoint_clients.findings.base import Figure, Finding, Result
from forkpoint_clients.findings.lab import BASELINE, Lab
from forkpoint_clients.findings.measures import bootstrapped, share
from forkpoint_clients.findings.reading import EntropyTrace, traces
from forkpoint_clients.findings.verdict import Claim, Criterion

TOP = 0.2
PER_KIND = 3
"""The number of positions of each kind tested in a text."""

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
    """Random reasoning positions, PER_KIND above the 80th percentile of all entropies and PER_KIND below; that
    percentile (nats).
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
        sampled = rng.sample(above, min(PER_KIND, len(above))) + rng.sample(below, min(PER_KIND, len(below)))
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
    names = sorted({position.question for position in tested})
    sums = np.array([_sums([position for position in tested if position.question == name]) for name in names]).reshape(
        len(names), 4
    )
    count = len(names)

    def of(compute: Any, level: float = ALPHA) -> Estimate:
        return bootstrapped(lambda weights: compute(weights @ sums), count, level) if count else Estimate(float("nan"))

    claims = (
        Claim(
            "High-entropy positions are forks more often than low-entropy positions are.",
            "arXiv:2506.01939",
            (
                Criterion(
                    "verified share of high-entropy positions, less that of the others",
                    _bounded(of(_difference, alpha), count, alpha),
                    "above",
                    0.0,
                    count,
                    "points",
                    alpha,
                    each,
                ),
            ),
        ),
        Claim(
            "Entropy does not detect forks: most verified forks lie outside the top fifth.",
            "of 25 forks verified by resampling in an earlier study, 1 lay in the top 20 % by entropy",
            (
                Criterion(
                    "verified forks that lie in the top fifth",
                    _clipped(of(_share_in_top, alpha)),
                    "below",
                    0.5,
                    count,
                    "percent",
                    alpha,
                    each,
                ),
            ),
            headline=False,
        ),
    )
    groups = {
        "high": [position for position in tested if position.high],
        "low": [position for position in tested if not position.high],
    }
    by_entropy = [
        (
            (low + min(high, 2.5)) / 2,
            share([position.verified for position in here], [position.question for position in here]),
        )
        for low, high in pairwise(BINS)
        if (here := [position for position in tested if low <= position.entropy < high])
    ]
    return Result(
        claims,
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
                    f"mean probability of the second token at {kind}-entropy positions",
                    share([position.second for position in group], [position.question for position in group]),
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
                f"{count} texts were verified, about one of {each:.3g} questions: the number of questions needed is "
                "scaled accordingly."
            ),
            (
                f"High is above {threshold:.3f} nats, the 80th percentile of these texts. {continuations} "
                "continuations of each alternative only find forks that change the outcome much: the shares are lower "
                "bounds."
            ),
            (
                "At a low-entropy position the second token is forced, though the model would hardly ever sample it: "
                "if it would change the outcome, the position is a fork that is not taken."
            ),
        ),
    )


def _bounded(estimate: Estimate, count: int, alpha: float) -> Estimate:
    """With few verified positions, the bootstrap interval is too narrow as well."""
    if not math.isfinite(estimate.error):
        return estimate
    return bounded_difference(estimate.value, estimate.error, count, 1.0, alpha)


def _clipped(estimate: Estimate) -> Estimate:
    if not math.isfinite(estimate.low):
        return estimate
    return replace(estimate, low=max(0.0, estimate.low), high=min(1.0, estimate.high))


def _sums(tested: Sequence[TestedPosition]) -> list[float]:
    """Verified and all positions: high, then low."""
    return [
        sum(position.verified for position in tested if position.high),
        sum(position.high for position in tested),
        sum(position.verified for position in tested if not position.high),
        sum(not position.high for position in tested),
    ]


def _shares(sums: Floats) -> tuple[float, float]:
    high, highs, low, lows = sums.tolist()
    return (high / highs if highs else float("nan")), (low / lows if lows else float("nan"))


def _difference(sums: Floats) -> float:
    high, low = _shares(sums)
    return high - low


def _share_in_top(sums: Floats) -> float:
    """The share of verified forks in the top fifth, weighted to the true shares of high and low positions."""
    high, low = _shares(sums)
    every = TOP * high + (1 - TOP) * low
    return TOP * high / every if every > 0 else float("nan")


FINDING = Finding(
    name="fork-validity",
    question="What share of high-entropy positions are verified forks?",
    claim=(
        "High-entropy tokens are forks, which steer the reasoning. Against it: hardly any verified fork has a high "
        "entropy."
    ),
    source="arXiv:2506.01939, against an earlier study of 25 verified forks",
    protocol=(
        f"In the texts of a fifth of the questions, at least ten, {PER_KIND} random positions of the reasoning in the "
        f"top fifth by entropy, and {PER_KIND} of the others. POST /v1/forks continues the text from the two likeliest "
        "tokens at each; a fork is verified where the answers differ (Fisher or chi-square, false-discovery rate 5 % "
        "over the text). With the embedded model on easy puzzles, as each position takes dozens of continuations."
    ),
    retest=retest,
)
