"""The sets of tokens that a policy's words, families and token ids stand for, each in its contexts."""

from __future__ import annotations

from collections.abc import Iterable

from forkpoint_policies.spec import InputError, Previous, Tokens, When

from .deciding_tokens import biased_tokens
from .policy_words import named_words
from .program import TokenSet
from .served_model import ServedModel
from .word_automaton import ANY_STATE, Automaton, Completion

MAX_ENTRIES = 4096
"""Of one rule's set of tokens: every row of a batch holds the largest set that any of its policies has, for each rule.
"""


class TokenSets:
    """Reads names as sets of tokens; adds to the `warnings` for the policy's author."""

    def __init__(self, target: ServedModel, automaton: Automaton, warnings: list[str]) -> None:
        self._target = target
        self._automaton = automaton
        self._warnings = warnings

    def words(self, tokens: Tokens | When, field: str) -> TokenSet:
        return _token_set((entry for word in named_words(tokens) for entry in self._automaton.completions[word]), field)

    def tokens(self, tokens: Tokens, field: str) -> TokenSet:
        self._target.vocabulary.check_ids(tokens.token_ids, f"{field}.token_ids")
        entries = [entry for word in named_words(tokens) for entry in self._automaton.completions[word]]
        entries += [(ANY_STATE, token) for token in tokens.token_ids]
        if isinstance(tokens, Previous):
            entries += [entry for ending in tokens.endings for entry in self._automaton.endings[ending]]
        return _token_set(entries, field)

    def biased(self, tokens: Tokens, field: str) -> TokenSet:
        """As `tokens`, but a word of several tokens by the one that decides it: at the last, a bias comes too late."""
        self._target.vocabulary.check_ids(tokens.token_ids, f"{field}.token_ids")
        entries: list[Completion] = [(ANY_STATE, token) for token in tokens.token_ids]
        for word in named_words(tokens):
            biased = biased_tokens(word, self._automaton, self._target.vocabulary, self._target.encode)
            entries += biased.entries
            if biased.beginnings:
                said = ", ".join(map(repr, biased.beginnings))
                self._warnings.append(
                    f"{field}: {word!r} is several tokens for this model in some spellings; there the bias acts on the "
                    f"token that decides it: {said}"
                )
        return _token_set(entries, field)

    def completing(self, tokens: Tokens) -> set[Completion]:
        """The tokens that complete the words of a set, and those that it names by id."""
        words = (entry for word in named_words(tokens) for entry in self._automaton.completions[word])
        return {*words, *((ANY_STATE, token) for token in tokens.token_ids)}


def _token_set(entries: Iterable[Completion], field: str) -> TokenSet:
    """Each (state, token) once; a token that belongs in every state is not listed for single states again.

    Raises InputError when they are more than a batch has room for.
    """
    known = set(entries)
    everywhere = {token for state, token in known if state == ANY_STATE}
    unique = sorted((s, t) for s, t in known if s == ANY_STATE or t not in everywhere)
    if len(unique) > MAX_ENTRIES:
        raise InputError(
            field, f"stand for {len(unique)} tokens of the served model, each in its contexts; {MAX_ENTRIES} at most"
        )
    return TokenSet([token for _, token in unique], [state for state, _ in unique])
