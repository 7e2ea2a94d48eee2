"""Does banning thinking words hurt more than banning other words of as much probability?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np

from forkpoint_clients.evaluate import formatting
from forkpoint_clients.evaluate.stats import ALPHA, Estimate
from forkpoint_clients.findings import plots
from forkpoint_clients.findings.base import Finding, Result, Table
from forkpoint_clients.findings.lab import BASELINE, Answers, Lab, Treatment
from forkpoint_clients.findings.measures import (
    UNKNOWN,
    average,
    bootstrapped,
    doses,
    effect,
    paired,
    questions_of,
    tokens,
)
from forkpoint_clients.findings.verdict import Claim, Criterion

BAN, NOWAIT = "thinking-ban", "nowait"
SHORTER = -0.10
"""A tenth fewer tokens is the least that counts as shorter; others found 13 to 16% where 27 to 51% were claimed."""

TOLERATED = -0.05
MATCHES = ("probability", "count")


def _treatments(policy: str) -> tuple[Treatment, ...]:
    placebos = (
        Treatment(f"{policy}, placebo by {match}", {"use": f"{policy}.placebo", "with": {"match": match}})
        for match in MATCHES
    )
    return (Treatment(policy, policy), *placebos)


TREATMENTS = (BASELINE, *_treatments(BAN), *_treatments(NOWAIT))


async def retest(lab: Lab) -> Result:
    """Request both bans and their placebos."""
    return conclude(await lab.ask(TREATMENTS))


def conclude(answers: Mapping[str, Answers], alpha: float = ALPHA) -> Result:
    base, ban, ban_mass, ban_count, nowait, *_ = (answers[treatment.name] for treatment in TREATMENTS)
    count, level = questions_of(base), alpha / 2

    def less(what: str, own: Answers, other: Answers, claimed: Literal["above", "below"], bound: float) -> Criterion:
        return Criterion(what, paired(own, other, alpha=level), claimed, bound, count, "points", level)

    shorter = relative(nowait, base, level)
    hurts = Claim(
        "Banning thinking words costs more right answers than banning other words does.",
        "arXiv:2506.02867: MATH500 78 -> 48, random words flat",
        (
            less(f"{BAN} less its placebo by probability", ban, ban_mass, "below", 0.0),
            less(f"{BAN} less its placebo by count", ban, ban_count, "below", 0.0),
        ),
    )
    harmless = Claim(
        "Without reflection words the answers are shorter and as good.",
        "arXiv:2506.08343: 27 to 51% fewer tokens",
        (
            Criterion(f"tokens of {NOWAIT}, relative to no policy", shorter, "below", SHORTER, count, "points", level),
            less(f"{NOWAIT} less no policy", nowait, base, "above", TOLERATED),
        ),
        headline=False,
    )
    losses = {treatment.name: paired(answers[treatment.name], base) for treatment in TREATMENTS[1:]}
    rows = tuple(
        (
            treatment.name,
            formatting.percent(average(answers[treatment.name])),
            formatting.points(losses[treatment.name]) if treatment is not BASELINE else "",
            formatting.count(average(answers[treatment.name], tokens)),
            formatting.number(average(answers[treatment.name], effect)),
        )
        for treatment in TREATMENTS
    )
    return Result(
        (hurts, harmless),
        tables=(
            Table(
                "Words that are never sampled", ("arm", "right", "less no policy", "tokens", "effect per answer"), rows
            ),
        ),
        plots=(
            plots.intervals("connectors", "Right answers, less those of no policy.", losses, "difference, points", 100),
        ),
        notes=(
            "The two papers contradict each other. Each claim has its own verdict; the finding's is the first.",
            (
                "A ban of random words removes almost no probability (see the effects), so the placebo by probability "
                "is the fair one."
            ),
            *doses(answers, {f"{name}, placebo by {match}": name for name in (BAN, NOWAIT) for match in MATCHES}),
        ),
    )


def relative(own: Answers, other: Answers, alpha: float = ALPHA) -> Estimate:
    """The relative change of the mean number of tokens, over the same questions and samples."""
    keys = [key for key in own if key in other and tokens(own[key]) is not None and tokens(other[key]) is not None]
    if not keys:
        return UNKNOWN
    names, groups = np.unique([question for question, _ in keys], return_inverse=True)
    sums = np.zeros((len(names), 2))
    np.add.at(sums, groups, [[own[key].tokens, other[key].tokens] for key in keys])

    def change(weights: np.ndarray) -> float:
        mine, theirs = weights @ sums
        return float(mine / theirs - 1)

    return bootstrapped(change, len(names), alpha)


FINDING = Finding(
    name="connectors",
    question="Does banning thinking words hurt more than its placebos?",
    claim=(
        "Thinking words carry the reasoning: without them accuracy collapses. Against it: without them answers are as "
        "good."
    ),
    source="arXiv:2506.02867, against arXiv:2506.08343",
    protocol=(
        "Each of the two published lists of words is banned inside the reasoning. Its two placebos take as much "
        "probability from other words at each position, or ban as many other words of the vocabulary. Paired by "
        f"question and seed. A loss of at most {-100 * TOLERATED:g} points counts as equally good, and at least "
        f"{-100 * SHORTER:g}% fewer tokens count as shorter."
    ),
    retest=retest,
)
