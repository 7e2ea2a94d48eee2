"""The served model's connector tokens, by family: for metrics, traces and `GET /v1/policies/connectors`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from forkpoint_policies.compile.vocabulary import Vocabulary
from forkpoint_policies.compile.word_automaton import ANY_STATE, FREE, build_automaton
from forkpoint_policies.spec import InputError
from forkpoint_policies.spec.connectors import FAMILIES


@dataclass(frozen=True)
class ConnectorIds:
    """Per family, the words that the tokenizer can write, and the tokens that are a whole such word."""

    words: Mapping[str, tuple[str, ...]]
    tokens: Mapping[str, tuple[int, ...]]
    _number_of: NDArray[np.int64]  # [vocabulary], 1 + the number of the token's first family, 0 for none

    def family(self, token: int) -> str | None:
        """The first family that a token belongs to, None for other tokens."""
        return next(iter(self.count([token])), None)

    def count(self, tokens: Sequence[int]) -> dict[str, int]:
        """How many of these tokens belong to each family, without the families that do not occur."""
        known = np.array(tokens, np.int64)
        times = np.bincount(self._number_of[known[known < len(self._number_of)]], minlength=1 + len(self.words))
        return {family: int(times[1 + number]) for number, family in enumerate(self.words) if times[1 + number]}


def find_connectors(vocabulary: Vocabulary) -> ConnectorIds:
    """Look the families up in a vocabulary."""
    words: dict[str, tuple[str, ...]] = {}
    tokens: dict[str, tuple[int, ...]] = {}
    number_of = np.zeros(vocabulary.size, np.int64)
    for number, (family, members) in enumerate(FAMILIES.items()):
        found: dict[int, None] = {}
        written = []
        for word in members:
            try:
                completions = build_automaton((word,), vocabulary).completions[word]
            except InputError:
                continue
            written.append(word)
            found |= dict.fromkeys(token for state, token in completions if state in (ANY_STATE, FREE))
        words[family], tokens[family] = tuple(written), tuple(sorted(found))
        for token in found:
            number_of[token] = number_of[token] or 1 + number
    return ConnectorIds(words, tokens, number_of)
