"""Does knowing when to stop beat stopping at a fixed length, or at random?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from forkpoint_clients.evaluate import formatting
from forkpoint_clients.evaluate.reasoning_cap import cap_at_mean
from forkpoint_clients.evaluate.stats import ALPHA, Estimate
from forkpoint_clients.findings import plots
from forkpoint_clients.findings.base import Finding, Result, Table
from forkpoint_clients.findings.lab import BASELINE, Answers, Lab, Treatment
from forkpoint_clients.findings.measures import average, paired, questions_of, tokens
from forkpoint_clients.findings.reading import EntropyTrace, traces
from forkpoint_clients.findings.verdict import Claim, Criterion

TRIES = 16
"""The number of guesses that guess-agreement takes in a text of mean length."""

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
        own = {"every": max(8, round(length / TRIES)), "equal": EQUAL} if self.name == "guess-agreement" else {}
        return {"use": f"{self.name}{suffix}", "with": own}


EXITS = (
    EarlyExit(
        "guess-confidence",
        "19 to 80% shorter and more often right",
        "arXiv:2504.15895",
        "takes what the model would say after its end at each reflection word, mean probability above 0.95: deer's "
        "rule for models that write no boxes",
    ),
    EarlyExit(
        "guess-agreement",
        "shorter without loss",
        "arXiv:2506.02536",
        f"takes {TRIES} guesses in a text of mean length, {EQUAL} equal ones in a row: answer-convergence's rule for "
        "models that write no boxes",
    ),
    EarlyExit(
        "eat",
        "13 to 21% shorter without loss",
        "arXiv:2509.26522",
        "entropy after a tried end at each sentence or line, its moving variance below 0.001 after 25",
    ),
)


async def retest(lab: Lab) -> Result:
    """Request early exits and their placebos, choose caps on half of the questions, and compare on the other half."""
    base = (await lab.ask([BASELINE]))[BASELINE.name]
    texts = traces(base)
    if not texts:
        return Result((), notes=("No text has a whole trace.",))
    # every exit and its placebo, on all questions
    length = float(np.mean([trace.in_reasoning.sum() for trace in texts]))
    answers = await lab.ask(
        [
            Treatment(f"{exit_.name}{suffix}", exit_.policy(length, bool(suffix)))
            for exit_ in EXITS
            for suffix in ("", ".placebo")
        ]
    )
    # the cap of each exit's mean length, from the first half
    half = len(lab.setting.items) // 2
    first, later = {item.id for item in lab.setting.items[:half]}, lab.setting.items[half:]
    first_texts = [trace for trace in texts if trace.question in first]
    caps = {exit_.name: cap_for(within(answers[exit_.name], first), first_texts) for exit_ in EXITS}
    # the caps, on the second half; equal caps share their answers
    treatments = {
        name: Treatment(f"cap {cap}", {"use": "reasoning-cap", "with": {"tokens": cap}}) for name, cap in caps.items()
    }
    unique = {treatment.key: treatment for treatment in treatments.values()}
    by_name = await lab.ask(list(unique.values()), later) if later else {}
    by_key = {key: by_name[treatment.name] for key, treatment in unique.items() if treatment.name in by_name}
    return conclude(
        base, answers, {name: by_key.get(treatment.key, {}) for name, treatment in treatments.items()}, caps
    )


def within(answers: Answers, questions: set[str]) -> Answers:
    """The answers to these questions."""
    return {key: scored for key, scored in answers.items() if key[0] in questions}


def cap_for(answers: Answers, texts: Sequence[EntropyTrace]) -> int:
    """The cap on reasoning tokens with which these texts would have the answers' mean number of tokens."""
    spent = [scored.tokens for scored in answers.values() if scored.answer.error is None]
    if not spent or not texts:
        return 1
    reasoning = [int(trace.in_reasoning.sum()) for trace in texts]
    after = [len(trace.tokens) - own for trace, own in zip(texts, reasoning, strict=True) if trace.finished]
    return cap_at_mean(reasoning, float(np.mean(after or [0])), float(np.mean(spent)))


def conclude(
    base: Answers,
    answers: Mapping[str, Answers],
    capped: Mapping[str, Answers],
    caps: Mapping[str, int],
    alpha: float = ALPHA,
) -> Result:
    """`capped` holds the answers to the second half of the questions under each policy's cap."""
    claims: list[Claim] = []
    shown: dict[str, Estimate] = {}
    rows = [("no policy", formatting.percent(average(base)), formatting.count(average(base, tokens)), "", "", "")]
    level = alpha / (2 * len(EXITS))  # the verdict rests on two figures of each
    for early_exit in EXITS:
        name = early_exit.name
        own, placebo, cap = answers[name], answers[f"{name}.placebo"], capped[name]
        to_cap, to_placebo = paired(own, cap, alpha=level), paired(own, placebo, alpha=level)
        each = questions_of(own) / max(1, questions_of(cap))
        cap_name, cap_questions = f"{name} less a cap at {caps[name]} reasoning tokens", questions_of(cap)
        claims.append(
            Claim(
                f"{name} is {early_exit.claim}: it beats a plain cap of the same length.",
                early_exit.source,
                (
                    Criterion(cap_name, to_cap, "above", 0.0, cap_questions, "points", level, each),
                    Criterion(f"{name} less its placebo", to_placebo, "above", 0.0, questions_of(own), "points", level),
                ),
            )
        )
        shown |= {f"{name}, less the cap": to_cap, f"{name}, less its placebo": to_placebo}
        rows.append((name, *_figures(own), "", ""))
        for other_name, other in ((f"{name}.placebo", placebo), (f"cap at {caps[name]}, {LATER}", cap)):
            score_change, token_change = paired(own, other), paired(own, other, tokens)
            rows.append(
                (other_name, *_figures(other), formatting.points(score_change), formatting.change(token_change))
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
                "early-exit", "Right answers at the same mean number of tokens.", shown, "difference, points", 100
            ),
        ),
        notes=(
            (
                "Tokens count everything that was generated, trial answers too. The cap is chosen on the first half "
                f"of the questions to have the policy's mean number of tokens, and compared on the {LATER}. If the "
                "policy with its probes costs more than any cap, the cap is the whole reasoning."
            ),
            *idle(base, answers),
            (
                "A placebo ends the reasoning at random positions with the same mean. It waits for the end of the "
                "whole reasoning, and so costs more tokens than the policy."
            ),
        ),
    )


def idle(base: Answers, answers: Mapping[str, Answers]) -> Iterator[str]:
    """A note on each policy that ended almost no answer: the comparison says nothing about it."""
    for early_exit in EXITS:
        pairs = [
            (base[key].answer.reasoning_tokens, own.answer.reasoning_tokens)
            for key, own in answers[early_exit.name].items()
            if key in base
        ]
        ended = sum(own is not None and before is not None and own < before for before, own in pairs)
        if ended < MIN_ENDED_SHARE * len(pairs):
            yield (
                f"{early_exit.name} ended {ended} of {len(pairs)} answers early: these figures show its cost, and "
                "nothing of its worth."
            )


def _figures(answers: Answers) -> tuple[str, str, str]:
    """Right answers, tokens and reasoning tokens, formatted."""
    reasoning = average(answers, lambda scored: scored.answer.reasoning_tokens)
    return (
        formatting.percent(average(answers)),
        formatting.count(average(answers, tokens)),
        formatting.number(reasoning),
    )


FINDING = Finding(
    name="early-exit",
    question="Does an early exit beat a plain cap of the same mean length?",
    claim="Ending the reasoning when the answer is settled saves tokens without loss.",
    source=", ".join(exit_.source for exit_ in EXITS),
    protocol="; ".join(f"`{exit_.name}` {exit_.how}" for exit_ in EXITS)
    + ". Each against a cap of the same mean number of tokens, and against its placebo; paired by question and seed.",
    retest=retest,
)
