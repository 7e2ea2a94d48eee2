"""How do planning and execution entropies change along a trace, and around its connectors?"""

from __future__ import annotations

import numpy as np

from forkpoint_clients.evaluate.stats import ALPHA, Estimate, Floats
from forkpoint_clients.findings import plots
from forkpoint_clients.findings.base import Figure, Finding, Result
from forkpoint_clients.findings.lab import BASELINE, Lab
from forkpoint_clients.findings.measures import clustered
from forkpoint_clients.findings.reading import EntropyTrace, traces
from forkpoint_clients.findings.verdict import Claim, Criterion

TENTHS = 10
REACH = 10
"""The number of tokens compared before and after a connector."""

BESIDE = (2, 5)
"""The nearest and farthest tokens, from a connector, of its surroundings."""


async def retest(lab: Lab) -> Result:
    answers = (await lab.ask([BASELINE]))[BASELINE.name]
    return conclude(traces(answers))


def conclude(texts: list[EntropyTrace], alpha: float = ALPHA) -> Result:
    windows, owners = around(texts)
    questions = len(set(owners))
    near = [REACH + sign * lag for sign in (-1, 1) for lag in range(BESIDE[0], BESIDE[1] + 1)]
    peak = clustered(windows[:, REACH] - windows[:, near].mean(axis=1), owners, alpha)
    after = clustered(windows[:, REACH + 1 :].mean(axis=1) - windows[:, :REACH].mean(axis=1), owners, alpha)
    claim = Claim(
        "Entropy peaks where a connector is sampled.",
        "Forkpoint's own question, after the tokens of arXiv:2506.01939",
        (
            Criterion(
                f"entropy at a connector, less that {BESIDE[0]} to {BESIDE[1]} tokens before and after",
                peak,
                "above",
                0.0,
                questions,
                "nats",
                alpha,
            ),
        ),
    )
    along = {role: drift(texts, role == "planning") for role in ("planning", "execution")}
    lags = {
        "around connectors": [(lag, clustered(windows[:, REACH + lag], owners)) for lag in range(-REACH, REACH + 1)]
    }
    return Result(
        (claim,),
        figures=(
            Figure(
                "planning entropy, last fifth of the reasoning less the first", change(texts, planning=True), "nats"
            ),
            Figure(
                "execution entropy, last fifth of the reasoning less the first", change(texts, planning=False), "nats"
            ),
            Figure("share of planning tokens, last fifth less the first", change(texts, planning=None), "points"),
            Figure(f"the {REACH} tokens after a connector less the {REACH} before", after, "nats"),
        ),
        plots=(
            plots.curves(
                "dynamics-along",
                "Mean entropy along the reasoning, of planning tokens (above the fork threshold) and of the others.",
                along,
                "tenth of the reasoning",
                "entropy, nats",
            ),
            plots.curves(
                "dynamics-around",
                f"Mean entropy before and after {len(windows):,} connectors, at 0 where the connector is sampled.",
                lags,
                "tokens from the connector",
                "entropy, nats",
            ),
        ),
    )


def around(texts: list[EntropyTrace]) -> tuple[Floats, list[str]]:
    """The entropies around every connector with REACH reasoning tokens on both sides, [connectors, 2 REACH + 1]; its
    question.
    """
    windows, owners = [np.zeros((0, 2 * REACH + 1))], []
    for trace in texts:
        entropies = trace.entropies[trace.in_reasoning]
        positions = np.flatnonzero(trace.connectors[trace.in_reasoning])
        positions = positions[(positions >= REACH) & (positions < len(entropies) - REACH)]
        if len(positions):
            windows.append(entropies[positions[:, None] + np.arange(-REACH, REACH + 1)])
            owners += [trace.question] * len(positions)
    return np.concatenate(windows), owners


def drift(texts: list[EntropyTrace], planning: bool) -> list[tuple[float, Estimate]]:
    """The mean entropy of one role in each tenth of the reasoning: (tenth from 1, estimate)."""
    values: list[list[Floats]] = [[] for _ in range(TENTHS)]
    owners: list[list[str]] = [[] for _ in range(TENTHS)]
    for trace in texts:
        entropies = trace.entropies[trace.in_reasoning]
        role = (entropies > trace.threshold) == planning
        tenth = np.arange(len(entropies)) * TENTHS // max(1, len(entropies))
        for number in range(TENTHS):
            here = entropies[role & (tenth == number)]
            values[number].append(here)
            owners[number] += [trace.question] * len(here)
    return [
        (number + 1, clustered(np.concatenate([np.zeros(0), *values[number]]), owners[number]))
        for number in range(TENTHS)
    ]


def change(texts: list[EntropyTrace], planning: bool | None) -> Estimate:
    """The last fifth of the reasoning minus the first, averaged over texts: a role's entropy, or (None) planning's
    share.
    """
    differences, owners = [], []
    for trace in texts:
        entropies = trace.entropies[trace.in_reasoning]
        fifth = len(entropies) // 5
        if not fifth:
            continue
        parts = [entropies[:fifth], entropies[-fifth:]]
        if planning is None:
            first, last = (float((part > trace.threshold).mean()) for part in parts)
        else:
            first, last = (_mean(part[(part > trace.threshold) == planning]) for part in parts)
        if np.isfinite(last - first):
            differences.append(last - first)
            owners.append(trace.question)
    return clustered(differences, owners)


def _mean(values: Floats) -> float:
    return float(values.mean()) if len(values) else float("nan")


FINDING = Finding(
    name="dynamics",
    question="How do planning and execution entropies move along the trace, and around connectors?",
    claim="Entropy peaks at connectors. How planning and execution drift along a trace is open: here it is measured.",
    source="the question that this project began with; arXiv:2506.01939",
    protocol=(
        "The traces of answers at temperature 1 without a policy. Planning tokens are those above the fork threshold, "
        "in force at the server, execution tokens the others. Texts are aligned at their connectors, and by tenths of "
        "their reasoning."
    ),
    retest=retest,
)
