"""Where a trial answer leaves the answer that it is about: which of the last tokens it replaces, and what is kept of
their text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from forkpoint_policies.compile.policy_words import named_words
from forkpoint_policies.compile.vocabulary import Vocabulary
from forkpoint_policies.compile.word_automaton import NamedWord
from forkpoint_policies.spec import Previous, Probe

MAX_SPACE_TOKENS = 8
_SENTENCE_END = re.compile(r"[.?!][\"'\u201d\u2019)\]*]*(\s*)$")


class TrialStart(NamedTuple):
    """A trial answer follows the tokens before `position`, and the text `kept` of the tokens after it."""

    position: int
    kept: str = ""


@dataclass(frozen=True)
class TrialStarts:
    """Reads, from the tokens at which a rule fired, where its trial answer starts."""

    probe: Probe
    previous: Previous | None
    vocabulary: Vocabulary

    @cached_property
    def max_dropped(self) -> int:
        """The most tokens that a trial answer replaces."""
        if self.probe.drop == "space" or self.probe.sentences:
            return MAX_SPACE_TOKENS
        return max((len(text.encode()) for text in (*(word.text for word in self._words), *self._endings)), default=0)

    @property
    def drops_endings(self) -> bool:
        """Whether a trial answer replaces an ending, so that the rule's positions divide the text into steps."""
        return bool(self._endings)

    def at(self, tokens: Sequence[int], position: int) -> TrialStart | None:
        """The start of the trial answer of a rule that fired before the token at `position`; None if this is no end of
        a sentence, where it has to be."""
        first = max(0, position - self.max_dropped)
        text = self._text(tokens[first:position])
        if self.probe.sentences and not self._ends_sentence(text, tokens, position):
            return None
        dropped = len(text[self._begin_of_dropped(text) :].encode())
        at = position
        while dropped > 0 and at > first:
            at, last = at - 1, self.vocabulary.tokens[tokens[at - 1]]
            dropped -= len(last)
            if dropped < 0:
                try:
                    return TrialStart(at, last[:-dropped].decode())
                except UnicodeDecodeError:  # a token that starts within a character is not taken apart
                    return TrialStart(position)
        return TrialStart(at if dropped == 0 else position)

    @property
    def _words(self) -> tuple[NamedWord, ...]:
        drops = self.probe.drop in (None, "previous")
        return named_words(self.previous) if drops and self.previous is not None else ()

    @property
    def _endings(self) -> tuple[str, ...]:
        return self.previous.endings if self.probe.drop == "previous" and self.previous is not None else ()

    def _begin_of_dropped(self, text: str) -> int:
        """Where in the text the part begins that the trial answer replaces."""
        if self.probe.drop == "space":
            return len(text.rstrip())
        found = [_first_of_run(text, ending) for ending in self._endings if text.endswith(ending)]
        for word in self._words:
            case = "" if word.cased else "(?i)"
            if (last := re.search(rf"{case}(?<!\w){re.escape(word.text)}(?=\W*$)", text)) is not None:
                found.append(last.start())
        return min(found, default=len(text))

    def _ends_sentence(self, text: str, tokens: Sequence[int], position: int) -> bool:
        """Whether the last token completes a sentence: its mark, and white space after it or in the next token."""
        found = _SENTENCE_END.search(text)
        if found is None or len(found[0]) - len(found[1]) == 0:
            return False
        if _SENTENCE_END.search(self._text(tokens[position - 1 : position])) is None and found[1]:
            return False  # white space alone: the sentence has ended at an earlier token
        return bool(found[1]) or self._text(tokens[position : position + 1])[:1].isspace()

    def _text(self, tokens: Sequence[int]) -> str:
        return b"".join(self.vocabulary.tokens[token] for token in tokens).decode(errors="replace")


def _first_of_run(text: str, ending: str) -> int:
    """Where the ending begins at the end of a text; one of a single character, such as a blank line, where the run of
    that character begins: a text is divided at the first ending, not at the last."""
    if len(set(ending)) == 1:
        return len(text.rstrip(ending[0]))
    return len(text) - len(ending)
