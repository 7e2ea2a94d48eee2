"""The words that a policy never lets a model write, and where they stand in a text."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from forkpoint_policies.compile.policy_words import named_words
from forkpoint_policies.compile.vocabulary import is_word_character
from forkpoint_policies.spec import Policy, When


def words_banned_in(policy: Policy, regions: Iterable[Literal["any", "reasoning", "answer"]]) -> BannedWords:
    """The words that some rule masks at every position of these regions, whatever the model's distribution is."""
    if policy.shadow:
        return BannedWords(())
    everywhere = [When(region=region) for region in regions]
    words = {
        word
        for rule in policy.rules
        if rule.do.suppress is not None and rule.do.suppress.bias is None and rule.when in everywhere
        for word in named_words(rule.do.suppress)
    }
    return BannedWords(tuple(sorted(words)))


@dataclass(frozen=True)
class BannedWords:
    """Words that must not stand in a text as whole words, in any case."""

    words: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.words)

    def stand_in(self, text: str, open_start: bool = False, open_end: bool = False) -> bool:
        """Whether one of the words stands in the text; at an open end of it, a character of a word may follow."""
        lowered = _lower(text)
        if self._any_word.search(lowered) is None:
            return False
        return any(_stands_in(word, lowered, open_start, open_end) for word in self._lowered)

    def occur_in(self, text: str) -> bool:
        """Whether the characters of one of the words occur in the text, as a whole word or not."""
        return self._any_word.search(_lower(text)) is not None

    @cached_property
    def _lowered(self) -> tuple[str, ...]:
        return tuple(_lower(word.strip()) for word in self.words)

    @cached_property
    def _any_word(self) -> re.Pattern[str]:
        return re.compile("|".join(map(re.escape, self._lowered)))


def _stands_in(word: str, text: str, open_start: bool, open_end: bool) -> bool:
    begin = text.find(word)
    while begin >= 0:
        end = begin + len(word)
        if not _joined(text, begin, open_start) and not _joined(text, end, open_end):
            return True
        begin = text.find(word, begin + 1)
    return False


def _joined(text: str, offset: int, open_edge: bool) -> bool:
    """Whether the characters on both sides of an offset belong to one word."""
    before = open_edge if offset == 0 else is_word_character(text[offset - 1])
    after = open_edge if offset == len(text) else is_word_character(text[offset])
    return before and after


def _lower(text: str) -> str:
    """The text in lower case, of the same length."""
    return "".join(lower if len(lower := character.lower()) == 1 else character for character in text)
