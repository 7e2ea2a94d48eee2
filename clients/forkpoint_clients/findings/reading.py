"""An answer with its scores, and the trace of one: what findings compute with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forkpoint_clients.evaluate.asker import Answer
from forkpoint_clients.evaluate.stats import Floats
from forkpoint_policies.spec.connectors import FAMILIES

WORDS = frozenset(word for family in FAMILIES.values() for word in family)
"""Every connector word of the policies' families."""


@dataclass(frozen=True)
class ScoredChoices:
    """`scores` [choices] from 0 to 1; None where the scorer failed."""

    answer: Answer
    scores: tuple[float | None, ...]

    @property
    def score(self) -> float | None:
        """Of the first choice; None where there is none."""
        return self.scores[0] if self.scores else None

    @property
    def tokens(self) -> float:
        """All that were generated for it, those of probes and of other branches among them."""
        return float(self.answer.tokens)

    @property
    def effect(self) -> float | None:
        return self.answer.effect


@dataclass(frozen=True)
class EntropyTrace:
    """One text, token by token; `entropies` [n] in nats, `in_reasoning` [n]. `finished` unless it was cut off."""

    question: str
    tokens: tuple[str, ...]
    entropies: Floats
    in_reasoning: NDArray[np.bool_]
    threshold: float
    content: str
    reasoning: str
    finished: bool

    @property
    def connectors(self) -> NDArray[np.bool_]:
        """[n], where a token is a connector word by itself, with whatever space or punctuation is part of it."""
        return np.array([token.strip(" \n.,:;!?").lower() in WORDS for token in self.tokens], bool)


def trace_of(report: Mapping[str, Any]) -> dict[str, Any]:
    """What is kept of `GET /v1/forks/{id}`: of the first choice, the positions that have an entropy."""
    choice = report["choices"][0]
    return {
        "tokens": [choice["tokens"][position] for position in choice["positions"]],
        "positions": choice["positions"],
        "entropies": choice["entropies"],
        "in_reasoning": [int(one) for one in choice["in_reasoning"]],
    }


def traces(answers: Mapping[tuple[str, int], ScoredChoices]) -> list[EntropyTrace]:
    """The traces of the answers that have a whole one."""
    return list(_traces(answers))


def _traces(answers: Mapping[tuple[str, int], ScoredChoices]) -> Iterator[EntropyTrace]:
    for (question, _), reading in answers.items():
        told = reading.answer.forkpoint or {}
        kept = told.get("trace")
        if kept and kept["tokens"] and kept["positions"] == list(range(len(kept["tokens"]))):
            yield EntropyTrace(
                question,
                tuple(kept["tokens"]),
                np.array(kept["entropies"], np.float64),
                np.array(kept["in_reasoning"], bool),
                float(told["threshold"]),
                reading.answer.text,
                reading.answer.reasoning,
                reading.answer.finish_reason == "stop",
            )
