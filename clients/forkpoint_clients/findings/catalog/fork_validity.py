"""Which share of high-entropy and of low-entropy positions are forks, as resampling shows?"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

from forkpoint_clients.evaluate.stats import ALPHA, Estimate, Floats, cautious
from forkpoint_clients.findings import plots
from forkpoint_clients.findings.base import Figure, Finding, Result
from forkpoint_clients.findings.lab import BASELINE, Lab
from forkpoint_clients.findings.measures import bootstrapped, share
from forkpoint_clients.findings.reading import EntropyTrace, traces
from forkpoint_clients.findings.verdict import Claim, Criterion

TOP = 0.2
EACH = 3
"""Positions of either kind that are tried in a text."""

BINS = (0.0, 0.01, 0.1, 0.3, 0.6, 1.0, 1.5, 99.0)
"""Of entropy in nats, for the plot."""


@dataclass(frozen=True)
class TestedPosition:
    """A position: whether it is in the top fifth, its entropy in nats, whether it is verified, the second token's probability."""

    question: str
    high: bool
    entropy: float
    verified: bool
    second: float


async def retest(lab: Lab) -> Result:
    items = lab.setting.verified
    found = [trace for trace in traces((await lab.ask([BASELINE], items, 1))[BASELINE.name]) if trace.finished]
    positions, border = chosen(found, lab.setting.seed)
    texts = {trace.question: trace for trace in found}
    verified = await lab.verify(positions, texts)
    places = list(tried(verified, texts, border))
    # of more questions a fixed share is verified, of which a share is finished and has positions
    each = lab.setting.verified_every * len(items) / max(1, len({one.question for one in places}))
    return conclude(places, border, lab.setting.continuations, each=each)


def chosen(found: Sequence[EntropyTrace], seed: int) -> tuple[dict[str, list[int]], float]:
    """Random positions of the reasoning, EACH above the 80th percentile of all its entropies and EACH below; and that, in nats."""
    if not found:
        return {}, float("nan")
    border = float(np.quantile(np.concatenate([trace.entropies[trace.in_reasoning] for trace in found]), 1 - TOP))
    positions = {}
    for trace in found:
        draw = random.Random(f"{seed} {trace.question}")
        inside = np.flatnonzero(trace.in_reasoning)
        above = inside[trace.entropies[inside] > border].tolist()
        below = inside[trace.entropies[inside] <= border].tolist()
        some = draw.sample(above, min(EACH, len(above))) + draw.sample(below, min(EACH, len(below)))
        if some:
            positions[trace.question] = sorted(some)
    return positions, border


def tried(
    verified: Mapping[str, Sequence[Mapping[str, Any]]], texts: Mapping[str, EntropyTrace], border: float
) -> Sequence[TestedPosition]:
    """What the server says of each position; where it read the text in other tokens than were generated, nothing."""
    return [
        TestedPosition(
            question,
            one["entropy"] > border,
            one["entropy"],
            bool(one["verified"]["verified"]),
            one["alternatives"][1]["probability"],
        )
        for question, places in verified.items()
        for one in places
        if one["index"] < len(texts[question].tokens) and one["token"] == texts[question].tokens[one["index"]]
    ]


def conclude(
    found: Sequence[TestedPosition], border: float, continuations: int, alpha: float = ALPHA, each: float = 1.0
) -> Result:
    """`each` is how many questions are asked for one whose text was verified."""
    names = sorted({one.question for one in found})
    sums = np.array([_sums([one for one in found if one.question == name]) for name in names]).reshape(len(names), 4)
    count = len(names)

    def of(compute: Any, level: float = ALPHA) -> Estimate:
        return bootstrapped(lambda weights: compute(weights @ sums), count, level) if count else Estimate(float("nan"))

    claims = (
        Claim(
            "High-entropy positions are forks more often than low-entropy positions are.",
            "arXiv:2506.01939",
            (
                Criterion(
                    "verified of the high-entropy positions, less of the others",
                    _bounded(of(_apart, alpha), count, alpha),
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
            "Entropy is no fork detector: most verified forks lie outside the top fifth.",
            "of 25 forks verified by resampling in an earlier study, 1 lay in the top 20 % by entropy",
            (
                Criterion(
                    "verified forks that lie in the top fifth",
                    _clipped(of(_within, alpha)),
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
    groups = {"high": [one for one in found if one.high], "low": [one for one in found if not one.high]}
    by_entropy = [
        ((low + min(high, 2.5)) / 2, share([one.verified for one in here], [one.question for one in here]))
        for low, high in pairwise(BINS)
        if (here := [one for one in found if low <= one.entropy < high])
    ]
    return Result(
        claims,
        figures=(
            *(
                Figure(
                    f"verified, of {len(some)} {kind}-entropy positions",
                    share([one.verified for one in some], [one.question for one in some]),
                    "percent",
                )
                for kind, some in groups.items()
            ),
            *(
                Figure(
                    f"mean probability of the second token at {kind}-entropy positions",
                    share([one.second for one in some], [one.question for one in some]),
                    "percent",
                )
                for kind, some in groups.items()
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
                f"{count} texts were verified, about one of {each:.3g} questions: so many more questions it takes, where a number "
                "is needed."
            ),
            (
                f"High is above {border:.3f} nats, the 80th percentile of these texts. {continuations} continuations of each "
                "alternative only find forks that change the outcome much: the shares are lower bounds."
            ),
            (
                "At a low-entropy position the second token is forced, which the model would hardly ever draw: that it would "
                "change the outcome makes it a fork that is not taken."
            ),
        ),
    )


def _bounded(one: Estimate, count: int, alpha: float) -> Estimate:
    """Of few verified positions the bootstrap, too, is surer than it may be."""
    return cautious(one.value, one.error, count, 1.0, alpha) if math.isfinite(one.error) else one


def _clipped(one: Estimate) -> Estimate:
    return replace(one, low=max(0.0, one.low), high=min(1.0, one.high)) if math.isfinite(one.low) else one


def _sums(found: Sequence[TestedPosition]) -> list[float]:
    """Verified and all, of the high and of the low."""
    return [
        sum(one.verified for one in found if one.high),
        sum(one.high for one in found),
        sum(one.verified for one in found if not one.high),
        sum(not one.high for one in found),
    ]


def _shares(sums: Floats) -> tuple[float, float]:
    high, highs, low, lows = sums.tolist()
    return (high / highs if highs else float("nan")), (low / lows if lows else float("nan"))


def _apart(sums: Floats) -> float:
    high, low = _shares(sums)
    return high - low


def _within(sums: Floats) -> float:
    """A fifth of all positions are high ones, however many of either kind were tried."""
    high, low = _shares(sums)
    every = TOP * high + (1 - TOP) * low
    return TOP * high / every if every > 0 else float("nan")


FINDING = Finding(
    name="fork-validity",
    question="Which share of high-entropy positions are verified forks?",
    claim="High-entropy tokens are forks, which steer the reasoning. Against it: hardly any verified fork has a high entropy.",
    source="arXiv:2506.01939, against an earlier study of 25 verified forks",
    protocol=(
        f"In the texts of a fifth of the questions, at least ten, {EACH} random positions of the reasoning in the top fifth by "
        f"entropy, and {EACH} of the others. POST /v1/forks continues the text from the two likeliest tokens at each; a fork is "
        "verified where the answers differ (Fisher or chi-square, false-discovery rate 5 % over the text). With the embedded model "
        "on easy puzzles, as each position takes dozens of continuations."
    ),
    retest=retest,
)
