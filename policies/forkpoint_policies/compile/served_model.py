"""The served model as a policy sees it: its vocabulary, its marker tokens and its fork threshold."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from forkpoint_policies.spec import InputError
from forkpoint_policies.spec.connectors import FAMILIES

from .program import NO_TOKEN
from .vocabulary import Vocabulary
from .word_automaton import build_automaton


@dataclass(frozen=True)
class ServedModel:
    """What a policy is compiled for. `fork_threshold` is in nats.

    `encode` turns text into tokens. `frequencies` are the shares of tokens in the model's own text, empty if it was not
    calibrated; `connectors` are the tokens of every connector family.
    """

    vocabulary: Vocabulary
    fork_threshold: float
    reasoning_start: int = NO_TOKEN
    reasoning_end: int = NO_TOKEN
    stop: int = NO_TOKEN
    encode: Callable[[str], list[int]] | None = None
    frequencies: Mapping[int, float] = field(default_factory=dict, hash=False, compare=False)

    @cached_property
    def connectors(self) -> frozenset[int]:
        """Every token that is, or completes, a connector."""
        found: set[int] = set()
        for word in {word for words in FAMILIES.values() for word in words}:
            try:
                found.update(token for _, token in build_automaton((word,), self.vocabulary).completions[word])
            except InputError:
                continue  # this tokenizer cannot write the word
        return frozenset(found)
