"""The words that a policy never lets a model write, and where they stand in a text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from forkpoint_policies.compile.policy_words import named_words
from forkpoint_policies.compile.vocabulary import is_word_character
from forkpoint_policies.spec import Policy, When


def words_banned_in(policy: Policy, regions: Iterable[Literal["any", "reasoning", "answer"]]) -> BannedWords:
    """The words that some rule masks at every position of these regions, for any distribution of the model."""
    if policy.shadow:
        return BannedWords(())
    everywhere = [When(region=region) for region in regions]
    words = {
        word
        for rule in policy.rules
        if rule.do.suppress is not None and rule.do.suppress.bias is None and rule.when in everywhere
        for word in named_words(rule.do.suppress)
        if not word.cased or rule.do.suppress.match == "cased"  # of the others, other tokens may write it
    }
    in_any_case, cased = (tuple(sorted(word.text for word in words if word.cased == flag)) for flag in (False, True))
    return BannedWords(in_any_case, cased)


@dataclass(frozen=True)
class BannedWords:
    """Words that must not stand in a text as whole words: `words` in any case, `cased` as they are written."""

    words: tuple[str, ...]
    cased: tuple[str, ...] = field(default=())

    def __bool__(self) -> bool:
        return bool(self.words or self.cased)

    def stand_in(self, text: str, open_start: bool = False, open_end: bool = False) -> bool:
        """Whether one of the words stands in the text; at an open end of it, a character of a word may follow."""
        return self.occur_in(text) and any(self._ends_in(text, open_start, open_end))

    def occur_in(self, text: str) -> bool:
        """Whether the characters of one of the words occur in the text, as a whole word or not."""
        return any(word in text for word in self._cased) or (
            bool(self.words) and self._any_word.search(_lower(text)) is not None
        )

    def end_in(self, text: str, after: int) -> bool:
        """Whether one of the words stands in the text and ends behind an offset; the text may go on in any way."""
        return any(end > after for end in self._ends_in(text, open_start=False, open_end=False))

    def starting_with(self, beginning: str) -> list[str]:
        """The words that start with this text."""
        lowered = _lower(beginning)
        found = [word for word in self.lowered if word.startswith(lowered)]
        return found + [word for word in self._cased if word.startswith(beginning)]

    def _ends_in(self, text: str, open_start: bool, open_end: bool) -> Iterator[int]:
        """The offsets at which words that stand in the text end."""
        lowered = _lower(text)
        for word in self.lowered:
            yield from _ends_of(word, lowered, open_start, open_end)
        for word in self._cased:
            yield from _ends_of(word, text, open_start, open_end)

    @cached_property
    def lowered(self) -> tuple[str, ...]:
        """The words in lower case, without the spaces around them."""
        return tuple(_lower(word.strip()) for word in self.words)

    @cached_property
    def _cased(self) -> tuple[str, ...]:
        return tuple(word.strip() for word in self.cased)

    @cached_property
    def _any_word(self) -> re.Pattern[str]:
        return re.compile("|".join(map(re.escape, self.lowered)))


def _ends_of(word: str, text: str, open_start: bool, open_end: bool) -> Iterator[int]:
    """The offsets at which a word that stands in the text ends."""
    begin = text.find(word)
    while begin >= 0:
        end = begin + len(word)
        if not _joined(text, begin, open_start) and not _joined(text, end, open_end):
            yield end
        begin = text.find(word, begin + 1)


def _joined(text: str, offset: int, open_edge: bool) -> bool:
    """Whether the characters on both sides of an offset belong to one word."""
    before = open_edge if offset == 0 else is_word_character(text[offset - 1])
    after = open_edge if offset == len(text) else is_word_character(text[offset])
    return before and after


def _lower(text: str) -> str:
    """The text in lower case, of the same length."""
    return "".join(lower if len(lower := character.lower()) == 1 else character for character in text)
