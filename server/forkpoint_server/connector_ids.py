"""Which tokens of the served model are connectors, and of which family: for telemetry and for `GET /v1/policies/connectors`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from forkpoint_policies.connectors import FAMILIES
from forkpoint_policies.spec import PolicyError
from forkpoint_policies.vocabulary import Vocabulary
from forkpoint_policies.words import ANY_STATE, FREE, build_automaton


@dataclass(frozen=True)
class ConnectorIds:
    """Per family, its words that the tokenizer can write, and the tokens that are such a word by themselves."""

    words: Mapping[str, tuple[str, ...]]
    tokens: Mapping[str, tuple[int, ...]]
    _family_of: Mapping[int, str]

    def family(self, token: int) -> str | None:
        """The first family that a token belongs to."""
        return self._family_of.get(token)


def find_connectors(vocabulary: Vocabulary) -> ConnectorIds:
    """Look the families up in a vocabulary."""
    words: dict[str, tuple[str, ...]] = {}
    tokens: dict[str, tuple[int, ...]] = {}
    family_of: dict[int, str] = {}
    for family, members in FAMILIES.items():
        found: dict[int, None] = {}
        written = []
        for word in members:
            try:
                completions = build_automaton((word,), vocabulary).completions[word]
            except PolicyError:
                continue
            written.append(word)
            found |= dict.fromkeys(token for state, token in completions if state in (ANY_STATE, FREE))
        words[family], tokens[family] = tuple(written), tuple(sorted(found))
        for token in found:
            family_of.setdefault(token, family)
    return ConnectorIds(words, tokens, family_of)
