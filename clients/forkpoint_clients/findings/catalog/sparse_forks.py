"""Is the entropy of this model concentrated on few tokens, and on which?"""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from forkpoint_clients.evaluate.formatting import plain
from forkpoint_clients.evaluate.stats import ALPHA, Floats
from forkpoint_clients.findings import plots
from forkpoint_clients.findings.base import Figure, Finding, Result, Table
from forkpoint_clients.findings.lab import BASELINE, Lab
from forkpoint_clients.findings.measures import bootstrapped, clustered, share
from forkpoint_clients.findings.reading import EntropyTrace, traces
from forkpoint_clients.findings.verdict import Claim, Criterion

CERTAIN_NATS = 0.01
TOP = 0.2
SHOWN = 12
MIN_COUNT = 20
"""A token's mean is shown if it occurs this often in all texts together."""

RESAMPLES = 400


async def retest(lab: Lab) -> Result:
    answers = (await lab.ask([BASELINE]))[BASELINE.name]
    return conclude(traces(answers))


def conclude(texts: list[EntropyTrace], alpha: float = ALPHA) -> Result:
    """The result of the traces, clustered by question."""
    if not texts:
        return Result((), notes=("No text has a whole trace.",))
    entropies = np.concatenate([trace.entropies for trace in texts])
    owners = np.concatenate([np.full(len(trace.entropies), trace.question) for trace in texts])
    connectors = np.concatenate([trace.connectors for trace in texts])
    questions, groups = np.unique(owners, return_inverse=True)
    count = len(questions)
    certain = share(entropies < CERTAIN_NATS, owners, alpha)
    sums = np.array([_sums(entropies[groups == group], connectors[groups == group]) for group in range(count)])
    apart = bootstrapped(lambda weights: _difference(weights @ sums), count, alpha)
    order = np.argsort(-entropies, kind="stable")
    ranked, owner = entropies[order], groups[order]
    concentrated = Claim(
        "More than half of the tokens are sampled with almost no entropy.",
        "arXiv:2506.01939: 50.6% of tokens below 0.01 nats; 20% above 0.672 (Qwen3-8B)",
        (Criterion(f"tokens below {CERTAIN_NATS} nats", certain, "above", 0.5, count, "percent", alpha),),
    )
    connected = Claim(
        "Connectors are sampled where there is more entropy than elsewhere.",
        "our own, after the words that arXiv:2506.01939 shows at high entropies",
        (
            Criterion(
                "mean entropy where a connector is sampled, less elsewhere", apart, "above", 0.0, count, "nats", alpha
            ),
        ),
        headline=False,
        own=True,
    )
    percentile = bootstrapped(lambda weights: _percentile(ranked, weights[owner]), count, resamples=RESAMPLES)
    return Result(
        (concentrated, connected),
        figures=(
            Figure(
                f"share of all entropy in the top {TOP:.0%} of tokens",
                bootstrapped(lambda weights: _share(ranked, weights[owner]), count, resamples=RESAMPLES),
                "percent",
            ),
            Figure("80th percentile of the entropies", percentile, "nats"),
            Figure("mean entropy", clustered(entropies, owners), "nats"),
            Figure(
                "connectors among the top 20%",
                share(connectors[entropies > percentile.value], owners[entropies > percentile.value]),
                "percent",
            ),
            Figure("connectors among all tokens", share(connectors, owners), "percent"),
        ),
        tables=(_tokens(texts),),
        plots=(
            plots.histogram(
                "sparse-forks",
                f"Entropies of {len(entropies):,} tokens; the line is at their 80th percentile.",
                entropies,
                np.linspace(0, max(3.0, float(entropies.max()) + 0.01), 40),
                "entropy, nats",
                percentile.value,
            ),
        ),
    )


def _sums(entropies: Floats, connectors: np.ndarray) -> list[float]:
    """The summed entropy and number of tokens of one question, at connectors and elsewhere."""
    return [
        float(entropies[connectors].sum()),
        float(connectors.sum()),
        float(entropies[~connectors].sum()),
        float((~connectors).sum()),
    ]


def _difference(sums: Floats) -> float:
    there, count, elsewhere, others = sums
    return float(there / count - elsewhere / others) if count and others else float("nan")


def _share(ranked: Floats, times: Floats) -> float:
    """The share of the sum held by the top fifth of descending values [tokens], each counted `times` [tokens]."""
    reached = np.cumsum(times) <= TOP * times.sum()
    total = float(ranked @ times)
    return float(ranked[reached] @ times[reached]) / total if total else float("nan")


def _percentile(ranked: Floats, times: Floats) -> float:
    return float(ranked[min(len(ranked) - 1, int(np.searchsorted(np.cumsum(times), TOP * times.sum())))])


def _tokens(texts: list[EntropyTrace]) -> Table:
    at: dict[str, list[float]] = defaultdict(list)
    for trace in texts:
        for token, nats in zip(trace.tokens, trace.entropies.tolist(), strict=True):
            at[token].append(nats)
    means = sorted(
        ((float(np.mean(values)), len(values), token) for token, values in at.items() if len(values) >= MIN_COUNT),
        reverse=True,
    )
    rows = tuple((repr(token), plain(mean, 2), f"{times:,}") for mean, times, token in means[:SHOWN])
    return Table(
        f"The tokens before which the model is least certain, of those sampled at least {MIN_COUNT} times",
        ("sampled token", "mean entropy, nats", "times"),
        rows,
    )


FINDING = Finding(
    name="sparse-forks",
    question="Is the entropy concentrated, and in which tokens?",
    claim="A fifth of the tokens carry nearly all the entropy; many of them are words that connect thoughts.",
    source="arXiv:2506.01939",
    protocol=(
        "Answers at temperature 1 without a policy. Entropies are those of the full vocabulary at temperature 1, "
        "before each token. A connector is a token that is a whole word of the policies' connector families."
    ),
    retest=retest,
)
