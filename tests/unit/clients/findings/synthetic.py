"""Synthetic answers and texts with planted effects, for tests of findings."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from forkpoint_clients.evaluate.asker import Answer, Choice
from forkpoint_clients.evaluate.stats import Estimate
from forkpoint_clients.findings.base import Result
from forkpoint_clients.findings.catalog import (
    entropy_law,
)
from forkpoint_clients.findings.reading import EntropyTrace, ScoredChoices
from forkpoint_clients.findings.verdict import Criterion

QUESTIONS = 100


Answers = dict[tuple[str, int], ScoredChoices]


def scored(right: float, tokens: int = 100, effect: float = 1.0, **summary: Any) -> ScoredChoices:
    forkpoint = {
        "interventions": {"suppress": {"fired": 3, "effect": effect}},
        "threshold": 0.5,
        "mean_entropy": 0.3,
        **summary,
    }
    return ScoredChoices(Answer((Choice("1 + 2", "so", "stop"),), tokens, tokens - 5, 0.1, forkpoint, "id"), (right,))


def answers_with(share: float, tokens: float = 100, seed: int = 0, **summary: Any) -> Answers:
    """Answers of which about this share is right, at random by question."""
    random = np.random.default_rng(seed)
    right = random.random(QUESTIONS) < share
    return {
        (f"q{n}", 0): scored(float(right[n]), round(tokens * random.uniform(0.9, 1.1)), **summary)
        for n in range(QUESTIONS)
    }


def words(result: Result) -> list[str]:
    return [claim.verdict.word for claim in result.claims]


BESIDE = (1, -1, 0, 0, -1, 1)
"""Neither rises nor falls."""


def entropies(a: float, b: float, spread: float) -> dict[float, Answers]:
    """Runs that follow R = -a exp(H) + b, with H from 0.1 to 0.6 at any temperature, up to `spread`."""
    found = {}
    for number, at in enumerate(entropy_law.TEMPERATURES):
        nats = 0.1 * (number + 1)
        share = -a * math.exp(nats) + b + spread * BESIDE[number]
        found[at] = {
            (f"q{n}", 0): scored(
                float((n * 7 + number) % 400 < 400 * share),
                mean_entropy=nats if at == 1.0 else 9.0,
                sampled_entropy=nats,
            )
            for n in range(400)
        }
    return found


def trace(
    question: str, tokens: Sequence[str], nats: Sequence[float], threshold: float = 0.5, reasoning: int | None = None
) -> EntropyTrace:
    inside = np.arange(len(tokens)) < (len(tokens) if reasoning is None else reasoning)
    return EntropyTrace(
        question, tuple(tokens), np.array(nats, np.float64), inside, threshold, "3", "so", finished=True
    )


def texts(sparse: bool, seed: int) -> list[EntropyTrace]:
    """Texts with a connector at every tenth token; the entropy is all there, or the same everywhere."""
    random = np.random.default_rng(seed)
    found = []
    for number in range(40):
        size = int(random.integers(80, 160))
        tokens = [" Wait" if index % 10 == 5 else f" {index % 7}" for index in range(size)]
        nats = (
            random.uniform(0.5, 1.5, size)
            if not sparse
            else np.array([random.uniform(1.3, 1.7) if token == " Wait" else 0.001 for token in tokens])
        )
        found.append(trace(f"q{number}", tokens, nats.tolist()))
    return found


def choices(right: Sequence[bool], tokens: int) -> ScoredChoices:
    """One request; each wrong answer is different."""
    said = tuple(Choice("right" if one else f"wrong {n}", "", "stop") for n, one in enumerate(right))
    return ScoredChoices(Answer(said, tokens), tuple(map(float, right)))


def trees(share: float, tokens: int, seed: int) -> Answers:
    random = np.random.default_rng(seed)
    return {(f"q{n}", 0): choices((random.random(4) < share).tolist(), tokens) for n in range(QUESTIONS)}


def part(low: float, high: float, claimed: Any = "above", bound: float = 0.0, value: float | None = None) -> Criterion:
    middle = (low + high) / 2 if value is None else value
    return Criterion("a figure", Estimate(middle, low, high, (high - low) / 3.92), claimed, bound, 100, "points")
