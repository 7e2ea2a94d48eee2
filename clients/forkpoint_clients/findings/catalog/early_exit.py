"""Does knowing when to stop beat stopping at a fixed length, or at random?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from forkpoint_clients.evaluate import formatting
from forkpoint_clients.evaluate.stats import ALPHA, Estimate
from forkpoint_clients.findings import plots
from forkpoint_clients.findings.base import Finding, Result, Table
from forkpoint_clients.findings.lab import BASELINE, Answers, Lab, Treatment
from forkpoint_clients.findings.measures import UNKNOWN, average, paired, questions_of, tokens
from forkpoint_clients.findings.reading import EntropyTrace, traces
from forkpoint_clients.findings.verdict import Claim, Criterion

TRIES = 16
"""The number of answers that answer-convergence tries in a text of mean length."""

EQUAL = 4
LATER = "second half"
MIN_ENDED_SHARE = 0.05


@dataclass(frozen=True)
class EarlyExit:
    """An early exit with its published claim; its policy depends on the mean number of reasoning tokens."""

    name: str
    claim: str
    source: str
    how: str

    def policy(self, length: float, placebo: bool = False) -> dict[str, Any]:
        """The `policy` field for texts of `length` reasoning tokens on average, or its placebo's."""
        suffix = ".placebo" if placebo else ""
        if self.name == "eat":
            rule = {
                "when": {"previous": {"endings": ["\n", "."]}, "region": "reasoning"},
                "do": {"probe": {"tokens": 1, "variance_below": 0.001, "smoothing": 0.2, "fewest": 25}},
            }
            return {"rules": [{"do": {"control": {"like": rule, "match": "positions"}}} if placebo else rule]}
        own = {"every": max(8, round(length / TRIES)), "equal": EQUAL} if self.name == "answer-convergence" else {}
        return {"use": f"{self.name}{suffix}", "with": own}


EXITS = (
    EarlyExit(
        "deer",
        "19 to 80 % shorter, and more right",
        "arXiv:2504.15895",
        "tries an answer at each reflection word, mean probability above 0.95",
    ),
    EarlyExit(
        "answer-convergence",
        "shorter without loss",
        "arXiv:2506.02536",
        f"tries {TRIES} answers in a text of mean length, {EQUAL} equal ones in a row",
    ),
    EarlyExit(
        "eat",
        "13 to 21 % fewer tokens without loss",
        "arXiv:2509.26522",
        "entropy after a tried end at each sentence or line, its moving variance below 0.001 after 25",
    ),
)


async def retest(lab: Lab) -> Result:
    base = (await lab.ask([BASELINE]))[BASELINE.name]
    found = traces(base)
    if not found:
        return Result((), notes=("No text has a whole trace.",))
    length = float(np.mean([trace.in_reasoning.sum() for trace in found]))
    arms = [
        Treatment(f"{one.name}{suffix}", one.policy(length, bool(suffix)))
        for one in EXITS
        for suffix in ("", ".placebo")
    ]
    answers = await lab.ask(arms)
    half = len(lab.setting.items) // 2
    first, later = {item.id for item in lab.setting.items[:half]}, lab.setting.items[half:]
    caps = {
        one.name: cap_for(within(answers[one.name], first), [trace for trace in found if trace.question in first])
        for one in EXITS
    }
    capped = {
        name: Treatment(f"cap {cap}", {"use": "reasoning-cap", "with": {"tokens": cap}}) for name, cap in caps.items()
    }
    told = await lab.ask(list({arm.key: arm for arm in capped.values()}.values()), later) if later else {}
    by_key = {arm.key: told[arm.name] for arm in capped.values() if arm.name in told}
    return conclude(base, answers, {name: by_key.get(arm.key, {}) for name, arm in capped.items()}, caps)


def within(answers: Answers, questions: set[str]) -> Answers:
    return {key: one for key, one in answers.items() if key[0] in questions}


def cap_for(answers: Answers, found: Sequence[EntropyTrace]) -> int:
    """The cap on reasoning tokens with which these texts would have the answers' mean number of tokens."""
    spent = [one.tokens for one in answers.values() if one.answer.error is None]
    if not spent or not found:
        return 1
    reasoning = np.array([int(trace.in_reasoning.sum()) for trace in found])
    rest = float(
        np.mean(
            [len(trace.tokens) - own for trace, own in zip(found, reasoning, strict=True) if trace.finished] or [0.0]
        )
    )
    caps = np.arange(1, int(reasoning.max()) + 1)
    means = np.array([np.minimum(reasoning, cap).mean() for cap in caps]) + rest
    return int(caps[np.argmin(np.abs(means - np.mean(spent)))])


def conclude(
    base: Answers,
    answers: Mapping[str, Answers],
    capped: Mapping[str, Answers],
    caps: Mapping[str, int],
    alpha: float = ALPHA,
) -> Result:
    """`capped` holds the answers to the second half of the questions under each policy's cap."""
    claims, rows = [], []
    shown: dict[str, Estimate] = {}
    rows.append(("no policy", formatting.percent(average(base)), formatting.count(average(base, tokens)), "", "", ""))
    level = alpha / (2 * len(EXITS))  # the verdict rests on two figures of each
    for one in EXITS:
        own, placebo, cap = answers[one.name], answers[f"{one.name}.placebo"], capped[one.name]
        to_cap, to_placebo = paired(own, cap, alpha=level), paired(own, placebo, alpha=level)
        longer = paired(own, cap, tokens)
        claims.append(
            Claim(
                f"{one.name}: {one.claim}, so that it beats a plain cap of the same length.",
                one.source,
                (
                    Criterion(
                        f"{one.name} less a cap at {caps[one.name]} reasoning tokens",
                        to_cap,
                        "above",
                        0.0,
                        questions_of(cap),
                        "points",
                        level,
                        questions_of(own) / max(1, questions_of(cap)),
                    ),
                    Criterion(
                        f"{one.name} less its placebo", to_placebo, "above", 0.0, questions_of(own), "points", level
                    ),
                ),
            )
        )
        shown |= {f"{one.name}, less the cap": to_cap, f"{one.name}, less its placebo": to_placebo}
        rows.append(
            (
                one.name,
                formatting.percent(average(own)),
                formatting.count(average(own, tokens)),
                formatting.number(_reasoning(own)),
                "",
                "",
            )
        )
        rows.append(
            (
                f"{one.name}.placebo",
                formatting.percent(average(placebo)),
                formatting.count(average(placebo, tokens)),
                formatting.number(_reasoning(placebo)),
                formatting.points(paired(own, placebo)),
                formatting.change(paired(own, placebo, tokens)),
            )
        )
        rows.append(
            (
                f"cap at {caps[one.name]}, {LATER}",
                formatting.percent(average(cap)),
                formatting.count(average(cap, tokens)),
                formatting.number(_reasoning(cap)),
                formatting.points(paired(own, cap)),
                formatting.change(longer),
            )
        )
    return Result(
        tuple(claims),
        tables=(
            Table(
                "Early exits, and what they are compared with",
                (
                    "arm",
                    "right",
                    "tokens, probes among them",
                    "reasoning tokens",
                    "policy less this, points",
                    "tokens, policy less this",
                ),
                tuple(rows),
            ),
        ),
        plots=(
            plots.intervals(
                "early-exit", "What is right at the same mean number of tokens.", shown, "difference, points", 100
            ),
        ),
        notes=(
            (
                "Tokens are all that were generated, tried answers among them. The cap is chosen on the first half of "
                "the "
                f"questions, so that its mean number of tokens is the policy's own, and compared on the {LATER}. Where "
                f"no cap "
                "is as long as the policy with its probes, it is the whole reasoning."
            ),
            *idle(base, answers),
            (
                "A placebo ends at random positions with the same mean; it waits for the reasoning's end, and so "
                "costs more "
                "tokens than the policy."
            ),
        ),
    )


def idle(base: Answers, answers: Mapping[str, Answers]) -> Iterator[str]:
    """A note on each policy that ended almost no answer: the comparison says nothing about it."""
    for one in EXITS:
        pairs = [
            (base[key].answer.reasoning_tokens, own.answer.reasoning_tokens)
            for key, own in answers[one.name].items()
            if key in base
        ]
        ended = sum(own is not None and before is not None and own < before for before, own in pairs)
        if ended < MIN_ENDED_SHARE * len(pairs):
            yield (
                f"{one.name} ended {ended} of {len(pairs)} answers early: its worth cannot be seen here, only its cost."
            )


def _reasoning(answers: Answers) -> Estimate:
    return average(answers, lambda one: one.answer.reasoning_tokens) if answers else UNKNOWN


FINDING = Finding(
    name="early-exit",
    question="Does an early exit beat a plain cap of the same mean length?",
    claim="Ending the reasoning when the answer is settled saves tokens without loss.",
    source=", ".join(one.source for one in EXITS),
    protocol="; ".join(f"`{one.name}` {one.how}" for one in EXITS)
    + ". Each against a cap of the same mean number of tokens, and against its placebo; paired by question and seed.",
    retest=retest,
)
