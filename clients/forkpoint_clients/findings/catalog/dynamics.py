"""How do planning and execution entropies change along a trace, and around its connectors?"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from forkpoint_clients.evaluate.stats import ALPHA, Estimate, Floats
from forkpoint_clients.findings import plots
from forkpoint_clients.findings.base import Figure, Finding, Result
from forkpoint_clients.findings.lab import BASELINE, Lab
from forkpoint_clients.findings.measures import clustered
from forkpoint_clients.findings.rarity import NamedValues, beyond_rarity
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
    questions, level = len(set(owners)), alpha / 2
    peak = clustered(_peaks(windows), owners, level)
    after = clustered(windows[:, REACH + 1 :].mean(axis=1) - windows[:, :REACH].mean(axis=1), owners)
    beyond, compared = beyond_rarity(named_peaks(texts), level)
    claim = Claim(
        "Entropy peaks where a connector is sampled, and peaks higher there than at other tokens that are as rare.",
        "our own, after the tokens of arXiv:2506.01939",
        (
            Criterion(
                f"entropy at a connector, less that {BESIDE[0]} to {BESIDE[1]} tokens before and after",
                peak,
                "above",
                0.0,
                questions,
                "nats",
                level,
            ),
            Criterion(
                "the same, less that at other tokens that are sampled as rarely",
                beyond,
                "above",
                0.0,
                questions,
                "nats",
                level,
            ),
        ),
        own=True,
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
        notes=(
            (
                f"{100 * compared:.0f}% of the connectors have such tokens to be compared with, sampled half to twice "
                "as often. Without this control the peak would say nothing about connectors: rare tokens mostly occur "
                "where many tokens are possible."
            ),
        ),
    )


def around(texts: list[EntropyTrace]) -> tuple[Floats, list[str]]:
    """The entropies around every connector with REACH reasoning tokens on both sides, [connectors, 2 REACH + 1]; its
    question.
    """
    windows, owners = [np.zeros((0, 2 * REACH + 1))], []
    for trace in texts:
        positions = _inner(trace)
        positions = positions[trace.connectors[trace.in_reasoning][positions]]
        windows.append(_window(trace, positions))
        owners += [trace.question] * len(positions)
    return np.concatenate(windows), owners


def named_peaks(texts: list[EntropyTrace]) -> list[NamedValues]:
    """The peaks of the entropy at all tokens of the reasoning with REACH others on both sides."""
    found = []
    for trace in texts:
        inner, tokens = _inner(trace), _reasoning_tokens(trace)
        names, connectors = [tokens[at] for at in inner], trace.connectors[trace.in_reasoning][inner]
        found.append(NamedValues(trace.question, names, connectors, _peaks(_window(trace, inner))))
    return found


def _reasoning_tokens(trace: EntropyTrace) -> list[str]:
    return [token for token, inside in zip(trace.tokens, trace.in_reasoning, strict=True) if inside]


def _inner(trace: EntropyTrace) -> NDArray[np.intp]:
    """The reasoning tokens with REACH others on both sides, counted among the reasoning tokens."""
    return np.arange(REACH, max(REACH, int(trace.in_reasoning.sum()) - REACH))


def _window(trace: EntropyTrace, positions: NDArray[np.intp]) -> Floats:
    entropies = trace.entropies[trace.in_reasoning]
    return entropies[positions[:, None] + np.arange(-REACH, REACH + 1)].reshape(len(positions), 2 * REACH + 1)


def _peaks(windows: Floats) -> Floats:
    """The entropy in the middle, less that of its surroundings, [windows]."""
    near = [REACH + sign * lag for sign in (-1, 1) for lag in range(BESIDE[0], BESIDE[1] + 1)]
    peaks: Floats = windows[:, REACH] - windows[:, near].mean(axis=1)
    return peaks


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
    source="our own question, after arXiv:2506.01939",
    protocol=(
        "The traces of answers at temperature 1 without a policy. Planning tokens lie above the server's fork "
        "threshold, execution tokens below it. Texts are aligned at their connectors, and by tenths of their "
        "reasoning. Connectors are compared with other tokens that are sampled as rarely."
    ),
    retest=retest,
)
