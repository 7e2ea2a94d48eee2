"""Synthetic scored answers of an arm."""

from __future__ import annotations

from typing import Any

import numpy as np

from forkpoint_clients.ab.comparison import ScoredAnswer
from forkpoint_clients.evaluate.asker import Answer, Choice
from forkpoint_clients.evaluate.journal import Unit

QUESTIONS, SAMPLES = 40, 3


def summary(effect: float) -> dict[str, Any]:
    return {"interventions": {"suppress": {"fired": 2, "effect": effect}}, "mean_entropy": 0.25}


def made(
    arm: str, chance: float, tokens: int, seed: int, effect: float | None = None, cut: bool = False
) -> dict[Unit, ScoredAnswer]:
    random = np.random.default_rng(seed)
    found = {}
    for question in range(QUESTIONS):
        for sample in range(SAMPLES):
            length = int(random.integers(tokens // 2, tokens * 3 // 2))
            choice = Choice("x", "", "length" if cut and length > tokens else "stop")
            forkpoint = None if effect is None else summary(effect)
            answer = Answer((choice,), length, length - 5, 1.0, forkpoint, f"chatcmpl-{question}/{sample}")
            found[Unit(f"q{question}", sample, arm)] = ScoredAnswer(answer, float(random.random() < chance))
    return found
