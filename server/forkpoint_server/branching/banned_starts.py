"""Which tokens an answer must not start with: those that complete a banned word, or begin one that can only be
finished."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import takewhile

from forkpoint_policies.compile.regions import IN_REASONING
from forkpoint_policies.compile.served_model import ServedModel
from forkpoint_policies.compile.vocabulary import is_word_character
from forkpoint_policies.spec import Policy
from forkpoint_server.structured_outputs.banned_words import BannedWords, words_banned_in

TAIL_TOKENS = 64
"""Of the text before; a word is at most 64 characters long."""


class BannedStarts:
    """The starts that a policy's bans rule out: words that it masks with no condition but a region."""

    def __init__(self, policy: Policy, model: ServedModel, region: int) -> None:
        self._in_reasoning = words_banned_in(policy, ("any", "reasoning"))
        self._in_answer = words_banned_in(policy, ("any", "answer"))
        self._model = model
        self._region = region  # at the end of the prompt

    def rule_out(self, before: Sequence[int], token: int) -> bool:
        """Whether a token must not continue the tokens before it, from the end of the prompt."""
        banned = self._banned_after(before)
        if not banned:
            return False
        earlier, text = self._text(before[-TAIL_TOKENS:]), self._text([*before[-TAIL_TOKENS:], token])
        if banned.end_in(text, after=len(earlier)):
            return True
        begun = "".join(takewhile(is_word_character, reversed(text)))[::-1]
        beginnings = [word.lower() for word in banned.starting_with(begun)] if begun else []
        return bool(beginnings) and all(
            word in beginnings or any(one.startswith(word) for one in beginnings)
            for word in self._words_with(begun.lower())
        )

    def _banned_after(self, tokens: Sequence[int]) -> BannedWords:
        if self._in_reasoning == self._in_answer:
            return self._in_answer
        in_reasoning = self._model.regions.follow(tokens, self._region) & IN_REASONING
        return self._in_reasoning if in_reasoning else self._in_answer

    def _words_with(self, beginning: str) -> Iterator[str]:
        """The words of the vocabulary that start so."""
        words = self._model.vocabulary.words
        for index in range(bisect_left(words, beginning), len(words)):
            if not words[index].startswith(beginning):
                return
            yield words[index]

    def _text(self, tokens: Sequence[int]) -> str:
        return b"".join(self._model.vocabulary.tokens[token] for token in tokens).decode(errors="ignore")
