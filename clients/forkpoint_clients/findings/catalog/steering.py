"""Does steering away from doubts help, and more than a random direction does?"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from forkpoint_clients.evaluate import formatting
from forkpoint_clients.evaluate.stats import ALPHA, Estimate
from forkpoint_clients.findings import plots
from forkpoint_clients.findings.arm_table import Column, arm_table
from forkpoint_clients.findings.base import Finding, Result
from forkpoint_clients.findings.lab import BASELINE, Answers, Lab, Treatment
from forkpoint_clients.findings.measures import Read, average, fired, paired, questions_of, rarer, relative
from forkpoint_clients.findings.reading import ScoredChoices
from forkpoint_clients.findings.verdict import Claim, Criterion
from forkpoint_policies.spec.connectors import FAMILIES

SEAL, DIRECTION, POSITIONS = "seal", "seal, random direction", "seal, random positions"
PARAGRAPH, SENTENCE = "\n\n", "."
SHORTER = -0.10
"""A tenth fewer tokens is the least that counts as shorter; 11.8% to 50.4% are claimed."""

DOUBTS = frozenset(FAMILIES["reflection"])
WORD = re.compile(r"[a-z][a-z'-]*", re.IGNORECASE)


def treatments(ending: str) -> tuple[Treatment, ...]:
    """`seal` where a thought ends so, and its placebos."""
    own = {"ending": ending}
    return (
        Treatment(SEAL, {"use": "seal", "with": own}),
        Treatment(DIRECTION, {"use": "seal.placebo", "with": {**own, "match": "direction"}}),
        Treatment(POSITIONS, {"use": "seal.placebo", "with": {**own, "match": "positions"}}),
    )


async def retest(lab: Lab) -> Result:
    """Request answers without a policy, and steered where their thoughts end."""
    await lab.check(treatments(PARAGRAPH))
    base = (await lab.ask([BASELINE]))[BASELINE.name]
    ending = ending_of(scored.answer.reasoning for scored in base.values())
    return conclude({BASELINE.name: base, **await lab.ask(treatments(ending))}, ending)


def ending_of(reasonings: Iterable[str]) -> str:
    """Where thoughts end: at blank lines if most texts have some, otherwise at full stops."""
    has = [PARAGRAPH in reasoning for reasoning in reasonings if reasoning]
    return PARAGRAPH if sum(has) > len(has) / 2 else SENTENCE


def doubts(ending: str) -> Read:
    """The share of an answer's thoughts after the first that begin with a reflective word; None if there are none."""
    between = re.compile(re.escape(ending) + (r"\s*" if ending.isspace() else r"\s+"))

    def read(scored: ScoredChoices) -> float | None:
        thoughts = [thought for thought in between.split(scored.answer.reasoning)[1:] if thought]
        words = [found[0].lower() if (found := WORD.match(thought)) else "" for thought in thoughts]
        return sum(word in DOUBTS for word in words) / len(words) if words else None

    return read


def conclude(answers: Mapping[str, Answers], ending: str, alpha: float = ALPHA) -> Result:
    base, seal, direction, positions = (answers[name] for name in (BASELINE.name, SEAL, DIRECTION, POSITIONS))
    count, level, doubt = questions_of(base), alpha / 4, doubts(ending)
    others = {"no policy": base, "a random direction": direction, "random positions": positions}
    helps = Claim(
        "Steering away from doubts gives more right answers with fewer tokens, and more than its placebos do.",
        "arXiv:2504.07986: up to 11% more right answers, 11.8 to 50.4% fewer tokens",
        (
            *(
                Criterion(f"{SEAL} less {name}", paired(seal, other, alpha=level), "above", 0.0, count, "points", level)
                for name, other in others.items()
            ),
            Criterion(
                f"tokens of {SEAL}, relative to no policy", relative(seal, base, level), "below", SHORTER, count,
                "points", level,
            ),
        ),
    )  # fmt: skip
    works = Claim(
        "Fewer thoughts begin with a reflective word, and fewer than with the random direction.",
        "our own: the vector points away from such thoughts",
        tuple(
            Criterion(
                f"thoughts with doubts, {SEAL} less {name}", paired(seal, other, doubt, alpha / 2), "below", 0.0, count,
                "points", alpha / 2,
            )
            for name, other in {"no policy": base, "a random direction": direction}.items()
        ),
        headline=False,
        own=True,
    )  # fmt: skip
    steered = (SEAL, DIRECTION, POSITIONS)
    rights: dict[str, Estimate] = {name: paired(answers[name], base) for name in steered}
    changes: dict[str, Estimate] = {name: paired(answers[name], base, doubt) for name in steered}
    table = arm_table(
        "Answers steered where a thought ends",
        answers,
        rights,
        (
            Column("thoughts with doubts", lambda own: formatting.percent(average(own, doubt))),
            Column("times steered", lambda own: formatting.number(average(own, fired)), of_baseline=False),
        ),
    )
    return Result(
        (helps, works),
        tables=(table,),
        plots=(
            plots.intervals("steering", "Right answers, less those of no policy.", rights, "difference, points", 100),
            plots.intervals(
                "steering-doubts",
                "The share of thoughts that begin with a reflective word, less that of no policy.",
                changes,
                "difference, points",
                100,
            ),
        ),
        notes=(
            (
                "A thought ends at a blank line."
                if ending == PARAGRAPH
                else "A thought ends at a full stop: this model's reasoning has no blank lines."
            ),
            (
                "One random direction of the vector's norm was drawn. The intervals are over questions: another "
                "direction may do something else. Steering changes no probability where it fires, so that it has no "
                "dose; instead, the table has how often each arm was steered."
            ),
            *rarer(answers, {DIRECTION: SEAL, POSITIONS: SEAL}),
        ),
    )


FINDING = Finding(
    name="steering",
    question="Does steering away from doubts help, and more than a random direction does?",
    claim=(
        "A vector from the mean state before thoughts that reflect to that before thoughts that go ahead, added where "
        "thoughts end, gives more right answers with fewer tokens."
    ),
    source="arXiv:2504.07986",
    protocol=(
        "`seal` with the server's vector of that name, at blank lines of the reasoning, or at full stops where most "
        "texts have none. Beside it a random direction of the same norm at the same places, the vector at as many "
        "random positions, and no policy; paired by question and seed. A thought has a doubt if it begins with a word "
        "of the policies' family of reflective connectors."
    ),
    retest=retest,
)
