"""Do forks tolerate heat that execution tokens do not?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .. import wording
from ..retest import drawing
from ..retest.finding import Figure, Finding, Result, Table
from ..retest.lab import BASE, Answers, Arm, Lab
from ..retest.measures import average, effect, fired, paired, questions_of, tokens
from ..retest.verdict import Claim, Part
from ..stats import ALPHA

HEAT = 2.0
TOLERATED = -0.05
"""A loss of less than five points is called none."""


def _hot(**when: Any) -> dict[str, Any]:
    return {"when": {"region": "reasoning", **when}, "do": {"temperature": HEAT}}


FORKS = _hot(entropy_above="fork")
SHARE = 0.25
"""A quarter of the execution tokens: forks are by definition about a fifth of all, and a quarter of the rest is as many."""

ARMS = (
    BASE,
    Arm("forks", {"rules": [FORKS]}),
    Arm("random positions", {"rules": [{"do": {"control": {"like": FORKS, "match": "positions"}}}]}),
    Arm("as many execution tokens", {"rules": [_hot(entropy_below="fork", probability=SHARE)]}),
    Arm("all execution tokens", {"rules": [_hot(entropy_below="fork")]}),
)


async def retest(lab: Lab) -> Result:
    return conclude(await lab.ask(ARMS))


def conclude(answers: Mapping[str, Answers], alpha: float = ALPHA) -> Result:
    base, forks, placebo, some, execution = (answers[arm.name] for arm in ARMS)
    count, part_alpha = questions_of(base), alpha / 3
    claim = Claim(
        f"Heating forks by {HEAT:g} does no harm, heating execution tokens does.",
        "arXiv:2506.01939: 71.67 -> 72.22 with forks at temperature 2; heated execution tokens end the ability",
        (
            Part(
                "forks heated, less no policy",
                paired(forks, base, alpha=part_alpha),
                "above",
                TOLERATED,
                count,
                "points",
                part_alpha,
            ),
            Part(
                "forks less all execution tokens",
                paired(forks, execution, alpha=part_alpha),
                "above",
                0.0,
                count,
                "points",
                part_alpha,
            ),
            Part(
                "forks less as many execution tokens",
                paired(forks, some, alpha=part_alpha),
                "above",
                0.0,
                count,
                "points",
                part_alpha,
            ),
        ),
    )
    losses = {arm.name: paired(answers[arm.name], base) for arm in ARMS[1:]}
    rows = tuple(
        (
            arm.name,
            wording.percent(average(answers[arm.name])),
            wording.points(losses[arm.name]) if arm is not BASE else "",
            wording.count(average(answers[arm.name], tokens)),
            wording.count(average(answers[arm.name], fired)) if arm is not BASE else "",
            wording.number(average(answers[arm.name], effect)),
        )
        for arm in ARMS
    )
    return Result(
        (claim,),
        figures=(Figure("forks less random positions (their placebo)", paired(forks, placebo), "points"),),
        tables=(
            Table(
                f"Temperature times {HEAT:g}, where",
                ("heated", "right", "less no policy", "tokens", "heated tokens", "effect per answer"),
                rows,
            ),
        ),
        plots=(
            drawing.intervals(
                "fork-temperature",
                f"What is right when these are heated by {HEAT:g}, less no policy.",
                losses,
                "difference, points",
                100,
            ),
        ),
        notes=(
            (
                "The effect is the expected number of changed tokens. Where random positions lose no more than forks, it is "
                "the number of heated tokens and not their being forks that is tolerated."
            ),
        ),
    )


FINDING = Finding(
    name="fork-temperature",
    question="Do forks tolerate heat that execution tokens do not?",
    claim="High-entropy tokens can be drawn at temperature 2 without loss; low-entropy tokens cannot.",
    source="arXiv:2506.01939",
    protocol=(
        f"The temperature is multiplied by {HEAT:g} inside the reasoning: above the fork threshold, at as many random "
        "positions (the placebo), at a random quarter of the tokens below it, which are about as many, and at all of these. "
        f"Paired by question and seed. Less than {-100 * TOLERATED:g} points are called no loss."
    ),
    retest=retest,
)
