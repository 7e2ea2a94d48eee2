"""Connectors beside other tokens that are sampled as rarely: what is special about a connector, and not about any rare
token.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from forkpoint_clients.evaluate.stats import ALPHA, Estimate, Floats

from .measures import UNKNOWN, bootstrapped


@dataclass(frozen=True)
class NamedValues:
    """A value at each of some tokens of a text: their `names`, which are `connectors` [n], and the `values` [n]."""

    question: str
    names: Sequence[str]
    connectors: NDArray[np.bool_]
    values: Floats


def beyond_rarity(texts: Sequence[NamedValues], alpha: float = ALPHA) -> tuple[Estimate, float]:
    """By how much the values are higher at connectors than at other tokens that are sampled as rarely, and the share of
    connectors that have such others.

    Each connector is compared with the tokens that are sampled at least half and at most twice as often, all words and
    signs that are no connectors.
    """
    counts = Counter(name for text in texts for name in text.names)
    words = {name for text in texts for name, connector in zip(text.names, text.connectors, strict=True) if connector}
    kinds = sorted(words)
    if not kinds:
        return UNKNOWN, 0.0
    alike = {
        kind: {
            name
            for name, times in counts.items()
            if name not in words and counts[kind] / 2 <= times <= 2 * counts[kind]
        }
        for kind in kinds
    }
    questions, groups = np.unique([text.question for text in texts], return_inverse=True)
    sums = np.zeros((len(questions), len(kinds), 4))
    for group, text in zip(groups, texts, strict=True):
        for number, kind in enumerate(kinds):
            own = np.array([name == kind for name in text.names], np.bool_)
            other = np.array([name in alike[kind] for name in text.names], np.bool_)
            sums[group, number] += text.values[own].sum(), own.sum(), text.values[other].sum(), other.sum()
    covered = sum(counts[kind] for kind in kinds if alike[kind]) / sum(counts[kind] for kind in kinds)
    return bootstrapped(lambda weights: _beyond(np.einsum("q,qkn->kn", weights, sums)), len(questions), alpha), covered


def _beyond(sums: Floats) -> float:
    """The mean value of connectors less that of their controls, of sums [kinds, 4], weighted by connectors."""
    own, times, other, others = sums[(sums[:, 1] > 0) & (sums[:, 3] > 0)].T
    return float((own - times * other / others).sum() / times.sum()) if len(times) else float("nan")
