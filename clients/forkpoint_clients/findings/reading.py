"""Answers with their scores, and traces of entropies: the data that findings compute with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
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
    """An answer with `scores` [choices] from 0 to 1; None if the scorer failed."""

    answer: Answer
    scores: tuple[float | None, ...]

    @property
    def score(self) -> float | None:
        """The score of the first choice; None if there is none."""
        return self.scores[0] if self.scores else None

    @property
    def tokens(self) -> float:
        """All tokens generated for the answer, including those of probes and of other branches."""
        return float(self.answer.tokens)

    @property
    def effect(self) -> float | None:
        return self.answer.effect


@dataclass(frozen=True)
class EntropyTrace:
    """One text, token by token: `entropies` [tokens] in nats, `in_reasoning` [tokens]. `finished` unless it was
    truncated. `hidden` has the signals of hidden states by name, [tokens] each, NaN where not known: none unless the
    policy has a condition on them.
    """

    question: str
    tokens: tuple[str, ...]
    entropies: Floats
    in_reasoning: NDArray[np.bool_]
    threshold: float
    content: str
    reasoning: str
    finished: bool
    hidden: Mapping[str, Floats] = field(default_factory=dict)

    @property
    def connectors(self) -> NDArray[np.bool_]:
        """[tokens]: whether a token is a whole connector word, apart from spaces and punctuation."""
        return np.array([token.strip(" \n.,:;!?").lower() in WORDS for token in self.tokens], bool)


def trace_of(report: Mapping[str, Any]) -> dict[str, Any]:
    """The stored part of `GET /v1/forks/{id}`: the first choice's positions that have an entropy, and the signals of
    hidden states there, if it has any."""
    choice = report["choices"][0]
    hidden = {"hidden": choice["hidden"]} if "hidden" in choice else {}
    return {
        "tokens": [choice["tokens"][position] for position in choice["positions"]],
        "positions": choice["positions"],
        "entropies": choice["entropies"],
        "in_reasoning": [int(inside) for inside in choice["in_reasoning"]],
        **hidden,
    }


def with_sampled_entropy(summary: Mapping[str, Any]) -> dict[str, Any]:
    """A response's `forkpoint` object with `sampled_entropy` in nats in place of the log probabilities of its tokens.

    The mean surprise of tokens is an unbiased estimate of the mean entropy of what they were sampled from.
    """
    choices = summary.get("choices") or []
    nats = [-value for choice in choices for value in choice.get("policy_logprobs") or [] if value is not None]
    rest = {name: value for name, value in summary.items() if name != "choices"}
    return {**rest, "sampled_entropy": sum(nats) / len(nats) if nats else None}


def traces(answers: Mapping[tuple[str, int], ScoredChoices]) -> list[EntropyTrace]:
    """The complete traces of the answers."""
    return list(_traces(answers))


def _traces(answers: Mapping[tuple[str, int], ScoredChoices]) -> Iterator[EntropyTrace]:
    for (question, _), scored in answers.items():
        summary = scored.answer.forkpoint or {}
        stored = summary.get("trace")
        if stored and stored["tokens"] and stored["positions"] == list(range(len(stored["tokens"]))):
            yield EntropyTrace(
                question,
                tuple(stored["tokens"]),
                np.array(stored["entropies"], np.float64),
                np.array(stored["in_reasoning"], bool),
                float(summary["threshold"]),
                scored.answer.text,
                scored.answer.reasoning,
                scored.answer.finish_reason == "stop",
                {name: np.array(values, np.float64) for name, values in stored.get("hidden", {}).items()},
            )
