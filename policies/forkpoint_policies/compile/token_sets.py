"""The sets of tokens that a policy's words, families and token ids stand for, each in its contexts."""

from __future__ import annotations

from collections.abc import Iterable

from forkpoint_policies.spec import InputError, Previous, Tokens, When

from .deciding_tokens import biased_tokens
from .policy_words import ending_tokens, named_words, whole_tokens
from .program import TokenSet
from .served_model import ServedModel
from .word_automaton import ANY_STATE, Automaton, Completion, NamedWord

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
        return _token_set(self._completions(tokens, field), field)

    def tokens(self, tokens: Tokens, field: str) -> TokenSet:
        self._target.vocabulary.check_ids(tokens.token_ids, f"{field}.token_ids")
        entries = self._completions(tokens, field)
        entries += [(ANY_STATE, token) for token in tokens.token_ids]
        if isinstance(tokens, Previous):
            entries += self._endings(tokens, field)
        return _token_set(entries, field)

    def biased(self, tokens: Tokens, field: str) -> TokenSet:
        """As `tokens`, but a word of several tokens by the one that decides it: at the last, a bias comes too late."""
        self._target.vocabulary.check_ids(tokens.token_ids, f"{field}.token_ids")
        entries: list[Completion] = [(ANY_STATE, token) for token in tokens.token_ids]
        for word in named_words(tokens):
            if whole := whole_tokens(tokens, word, self._target.vocabulary):
                entries += [(ANY_STATE, token) for token in whole]
                continue
            self._warn_of_several(tokens, word, field)
            biased = biased_tokens(word, self._automaton, self._target.vocabulary, self._target.encode)
            entries += biased.entries
            if biased.beginnings:
                said = ", ".join(map(repr, biased.beginnings))
                self._warnings.append(
                    f"{field}: {word.text!r} is several tokens for this model in some spellings; there the bias acts "
                    f"on the token that decides it: {said}"
                )
        return _token_set(entries, field)

    def completing(self, tokens: Tokens) -> set[Completion]:
        """The tokens that complete the words of a set, and those that it names by id."""
        return {*self._completions(tokens), *((ANY_STATE, token) for token in tokens.token_ids)}

    def _endings(self, previous: Previous, field: str) -> list[Completion]:
        """The tokens that leave the text ending as `previous` says."""
        if whole := ending_tokens(previous, self._target.vocabulary):
            return [(ANY_STATE, token) for token in whole]
        if previous.ending_match == "token":
            said = ", ".join(map(repr, previous.endings))
            self._warnings.append(f"{field}.endings: no token of this model is {said}; they are matched as text")
        return [entry for ending in previous.endings for entry in self._automaton.endings[ending]]

    def _completions(self, tokens: Tokens | When, field: str | None = None) -> list[Completion]:
        """The tokens that complete the words of a set; with a `field`, warns of words that are no single token."""
        found: list[Completion] = []
        for word in named_words(tokens):
            if whole := whole_tokens(tokens, word, self._target.vocabulary):
                found += [(ANY_STATE, token) for token in whole]
                continue
            if field is not None:
                self._warn_of_several(tokens, word, field)
            found += self._automaton.completing(word)
        return found

    def _warn_of_several(self, tokens: Tokens | When, word: NamedWord, field: str) -> None:
        if tokens.match in ("token", "bare_token") and word.cased:
            self._warnings.append(
                f"{field}: no token of this model is {word.text!r}; it is matched as with match `cased`"
            )


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
