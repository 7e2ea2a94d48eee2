"""Does banning thinking words hurt more than changing as much of the text at random?"""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal

from forkpoint_clients.evaluate import formatting
from forkpoint_clients.evaluate.stats import ALPHA
from forkpoint_clients.findings import plots
from forkpoint_clients.findings.arm_table import Column, arm_table
from forkpoint_clients.findings.base import Finding, Result
from forkpoint_clients.findings.lab import BASELINE, CALIBRATION_ANSWERS, Answers, Lab, Treatment
from forkpoint_clients.findings.measures import (
    UNKNOWN,
    average,
    dose,
    doses,
    effect,
    paired,
    questions_of,
    relative,
)
from forkpoint_clients.findings.verdict import Claim, Criterion
from forkpoint_policies.doses import why_no_conclusion

BAN, NOWAIT = "thinking-ban", "nowait"
SHORTER = -0.10
"""A tenth fewer tokens is the least that counts as shorter; others found 13 to 16% where 27 to 51% were claimed."""

TOLERATED = -0.05
MATCHES = ("probability", "count")


def by_dose(policy: str) -> str:
    """The name of the placebo that the comparison rests on."""
    return f"{policy}, placebo by dose"


def _treatments(policy: str) -> tuple[Treatment, ...]:
    placebos = (
        Treatment(name, {"use": f"{policy}.placebo", "with": {"match": match}})
        for name, match in zip(_placebos(policy), MATCHES, strict=True)
    )
    return (Treatment(policy, policy), *placebos)


def _placebos(policy: str) -> tuple[str, ...]:
    """The names of the placebos that are matched place by place."""
    return tuple(f"{policy}, placebo by {match}" for match in MATCHES)


TREATMENTS = (BASELINE, *_treatments(BAN), *_treatments(NOWAIT))


async def retest(lab: Lab) -> Result:
    """Find the strengths of the placebos by dose, then request both bans and their placebos."""
    matched = [found for policy in (BAN, NOWAIT) if (found := await lab.with_dose(policy)) is not None]
    return conclude(await lab.ask((*TREATMENTS, *matched)), {one.name: one.policy for one in matched})


def conclude(
    answers: Mapping[str, Answers], strengths: Mapping[str, Any] = MappingProxyType({}), alpha: float = ALPHA
) -> Result:
    """`strengths`: the policies of the placebos by dose, by name, for the notes."""
    base, ban, nowait = answers[BASELINE.name], answers[BAN], answers[NOWAIT]
    count, level = questions_of(base), alpha / 2
    placebo = answers.get(by_dose(BAN), {})
    reason = why_no_conclusion(dose(ban), dose(placebo))

    def less(what: str, own: Answers, other: Answers, claimed: Literal["above", "below"], bound: float) -> Criterion:
        return Criterion(what, paired(own, other, alpha=level), claimed, bound, count, "points", level)

    beyond = UNKNOWN if reason is not None else paired(ban, placebo, alpha=alpha)
    shorter = relative(nowait, base, level)
    hurts = Claim(
        "Banning thinking words costs more right answers than as large a change at random does.",
        "arXiv:2506.02867: MATH500 78 -> 48, random words flat",
        (Criterion(f"{BAN} less its placebo by dose", beyond, "below", 0.0, count, "points", alpha),),
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
    names = [
        name for policy in (BAN, NOWAIT) for name in (policy, by_dose(policy), *_placebos(policy)) if name in answers
    ]
    losses = {name: paired(answers[name], base) for name in names}
    table = arm_table(
        "Words that are never sampled",
        answers,
        losses,
        (
            Column("effect per answer", lambda own: formatting.number(average(own, effect))),
            Column("effect per token", lambda own: formatting.plain(dose(own), 3)),
        ),
    )
    return Result(
        (hurts, harmless),
        tables=(table,),
        plots=(
            plots.intervals("connectors", "Right answers, less those of no policy.", losses, "difference, points", 100),
        ),
        notes=(
            "The two papers contradict each other. Each claim has its own verdict; the finding's is the first.",
            (
                "The verdict rests on the placebo by dose, which changes as much per token as the ban does, at random. "
                "Those by probability and by count are matched place by place, and change far less: they support no "
                "conclusion."
            ),
            *([] if reason is None else [f"No conclusion on {BAN}: {reason}."]),
            *(f"{name}: `{json.dumps(policy)}`." for name, policy in strengths.items()),
            *doses(
                answers, {name: policy for policy in (BAN, NOWAIT) for name in names if name.startswith(f"{policy},")}
            ),
        ),
    )


FINDING = Finding(
    name="connectors",
    question="Does banning thinking words hurt more than changing as much at random?",
    claim=(
        "Thinking words carry the reasoning: without them accuracy collapses. Against it: without them answers are as "
        "good."
    ),
    source="arXiv:2506.02867, against arXiv:2506.08343",
    protocol=(
        "Each of the two published lists of words is banned inside the reasoning. Its placebo by dose moves other "
        "tokens at random at every position of the reasoning, as much per token as the ban does: the strength is "
        f"calibrated on {CALIBRATION_ANSWERS} answers of each, with seeds of their own. Two more placebos take as much "
        "probability from other words at each position, or ban as many other words of the vocabulary; they are shown, "
        "and decide nothing. Paired by question and seed. A loss of at most "
        f"{-100 * TOLERATED:g} points counts as equally good, and at least "
        f"{-100 * SHORTER:g}% fewer tokens count as shorter."
    ),
    retest=retest,
)
