"""Do forks tolerate heat that execution tokens do not?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from forkpoint_clients.evaluate import formatting
from forkpoint_clients.evaluate.stats import ALPHA
from forkpoint_clients.findings import plots
from forkpoint_clients.findings.arm_table import Column, arm_table
from forkpoint_clients.findings.base import Finding, Result
from forkpoint_clients.findings.lab import BASELINE, Answers, Lab, Treatment
from forkpoint_clients.findings.measures import average, doses, effect, fired, paired, questions_of
from forkpoint_clients.findings.reading import EntropyTrace, traces
from forkpoint_clients.findings.verdict import Claim, Criterion

HEAT = 2.0
TOLERATED = -0.05
"""A loss of less than five points counts as no loss."""


def _hot(**when: Any) -> dict[str, Any]:
    return {"when": {"region": "reasoning", **when}, "do": {"temperature": HEAT}}


FORKS = _hot(entropy_above="fork")
NAMES = (BASELINE.name, "forks", "random positions", "as many execution tokens", "all execution tokens")
MIN_SHARE, SHARE_DIGITS = 0.01, 2
"""The share of execution tokens is rounded, so that a few more texts rarely change the policy."""


def treatments(share: float) -> tuple[Treatment, ...]:
    """Heat nothing, forks, as many random positions, this share of the execution tokens, or all of them."""
    policies = (
        FORKS,
        {"do": {"control": {"like": FORKS, "match": "positions"}}},
        _hot(entropy_below="fork", probability=share),
        _hot(entropy_below="fork"),
    )
    return (BASELINE, *(Treatment(name, {"rules": [rule]}) for name, rule in zip(NAMES[1:], policies, strict=True)))


def share_of(texts: Sequence[EntropyTrace]) -> tuple[float, float]:
    """The share of forks among reasoning tokens, and the share of the other tokens that is as many."""
    forks = sum(int((trace.in_reasoning & (trace.entropies > trace.threshold)).sum()) for trace in texts)
    others = sum(int(trace.in_reasoning.sum()) for trace in texts) - forks
    return forks / max(1, forks + others), min(1.0, max(MIN_SHARE, round(forks / max(1, others), SHARE_DIGITS)))


async def retest(lab: Lab) -> Result:
    texts = traces((await lab.ask([BASELINE]))[BASELINE.name])
    if not texts:
        return Result((), notes=("No text has a whole trace.",))
    forks, share = share_of(texts)
    return conclude(await lab.ask(treatments(share)), forks, share)


def conclude(answers: Mapping[str, Answers], fork_share: float, share: float, alpha: float = ALPHA) -> Result:
    """`fork_share` of the reasoning tokens without a policy are forks; `share` of the execution tokens were heated."""
    base, forks, placebo, some_execution, execution = (answers[name] for name in NAMES)
    count, level = questions_of(base), alpha / 4

    def forks_less(what: str, other: Answers, bound: float = 0.0) -> Criterion:
        return Criterion(what, paired(forks, other, alpha=level), "above", bound, count, "points", level)

    claim = Claim(
        f"Heating forks by {HEAT:g} does no harm, heating execution tokens does.",
        "arXiv:2506.01939: 71.67 -> 72.22 with forks at temperature 2; heated execution tokens end the ability",
        (
            forks_less("forks heated, less no policy", base, TOLERATED),
            forks_less("forks less all execution tokens", execution),
            forks_less("forks less as many random positions", placebo),
            forks_less("forks less as many execution tokens", some_execution),
        ),
    )
    losses = {name: paired(answers[name], base) for name in NAMES[1:]}
    table = arm_table(
        f"Temperature times {HEAT:g}, where",
        answers,
        losses,
        (
            Column("heated tokens", lambda own: formatting.count(average(own, fired)), of_baseline=False),
            Column("effect per answer", lambda own: formatting.number(average(own, effect))),
        ),
        head="heated",
    )
    heated = {name: average(answers[name], fired).value for name in NAMES[1:4]}
    counts = ", ".join(f"{heated[name]:.0f} ({name})" for name in heated)
    return Result(
        (claim,),
        tables=(table,),
        plots=(
            plots.intervals(
                "fork-temperature",
                f"Right answers when these are heated by {HEAT:g}, less those of no policy.",
                losses,
                "difference, points",
                100,
            ),
        ),
        notes=(
            (
                f"Without a policy {100 * fork_share:.1f}% of the reasoning tokens are forks, and "
                f"{100 * share:.0f}% of the others are as many. Heated tokens of an answer, on average: {counts}. They "
                "differ because heat changes the length of answers."
            ),
            (
                "The effect is the expected number of changed tokens. If random positions lose no more than forks, "
                "then what the model tolerates is the number of heated tokens, not heat at forks."
            ),
            *doses(answers, dict.fromkeys(NAMES[2:4], NAMES[1])),
        ),
    )


FINDING = Finding(
    name="fork-temperature",
    question="Do forks tolerate heat that execution tokens do not?",
    claim="High-entropy tokens can be sampled at temperature 2 without loss; low-entropy tokens cannot.",
    source="arXiv:2506.01939",
    protocol=(
        f"Inside the reasoning, the temperature is multiplied by {HEAT:g} at forks (above the fork threshold), at as "
        "many random positions (the placebo), at a random share of the execution tokens (below the threshold; as many "
        "as the forks in answers without a policy), or at all execution tokens. Paired by question and seed. A loss "
        f"of less than {-100 * TOLERATED:g} points counts as no loss."
    ),
    retest=retest,
)
