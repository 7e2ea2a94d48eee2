"""What can stand beside the parts of a grammar: whether a character of a word may come right before or after."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Set
from dataclasses import dataclass

from forkpoint_policies.compile.vocabulary import is_word_character

from .grammar import UNBOUNDED, CharacterClass, Element, Grammar, Group, Literal, Reference, Sequence


@dataclass(frozen=True)
class Neighbours:
    """Of each rule: can it derive the empty text, can it start or end in a character of a word, and can such a
    character come right before or right after it."""

    empty: frozenset[str]
    starts_in_word: frozenset[str]
    ends_in_word: frozenset[str]
    after_word: frozenset[str]
    before_word: frozenset[str]

    @staticmethod
    def of(grammar: Grammar) -> Neighbours:
        opaque = {name for name, rule in grammar.items() if rule.opaque is not None}
        empty = _closure(grammar, opaque, lambda sequence, found: all(_can_be_empty(one, found) for one in sequence))
        starts = _closure(grammar, opaque, lambda sequence, found: _starts_in_word(sequence, empty, found))
        ends = _closure(grammar, opaque, lambda sequence, found: _ends_in_word(sequence, empty, found))
        partial = Neighbours(empty, starts, ends, frozenset(), frozenset())
        return Neighbours(
            empty, starts, ends, after_word=partial._around(grammar, True), before_word=partial._around(grammar, False)
        )

    def open_start(self, owner: str, sequence: Sequence, index: int) -> bool:
        """Whether a character of a word may come right before an element of a rule's sequence."""
        return self._opens_before(owner, sequence, index, self.after_word)

    def open_end(self, owner: str, sequence: Sequence, index: int) -> bool:
        """Whether a character of a word may come right after an element of a rule's sequence."""
        return self._opens_after(owner, sequence, index, self.before_word)

    def _around(self, grammar: Grammar, before: bool) -> frozenset[str]:
        """The rules right before (or after) which a character of a word may come; the grammar's text is bounded."""
        found: set[str] = set()
        own = self.ends_in_word if before else self.starts_in_word
        edge = self._opens_before if before else self._opens_after

        def add_of(owner: str) -> None:
            for sequence in grammar[owner].sequences:
                for index, element in enumerate(sequence):
                    if not isinstance(element, Reference) or element.rule in found:
                        continue
                    if edge(owner, sequence, index, found) or (_repeats(element) and element.rule in own):
                        found.add(element.rule)

        _until_stable(grammar, found, add_of)
        return frozenset(found)

    def _opens_before(self, owner: str, sequence: Sequence, index: int, after_word: Set[str]) -> bool:
        before = sequence[:index]
        if _ends_in_word(before, self.empty, self.ends_in_word):
            return True
        return owner in after_word and all(_can_be_empty(one, self.empty) for one in before)

    def _opens_after(self, owner: str, sequence: Sequence, index: int, before_word: Set[str]) -> bool:
        after = sequence[index + 1 :]
        if _starts_in_word(after, self.empty, self.starts_in_word):
            return True
        return owner in before_word and all(_can_be_empty(one, self.empty) for one in after)


def _closure(grammar: Grammar, start: Iterable[str], holds: Callable[[Sequence, Set[str]], bool]) -> frozenset[str]:
    """The rules of which some sequence has a property that depends on which rules have it."""
    found = set(start)

    def add(name: str) -> None:
        if name not in found and any(holds(one, found) for one in grammar[name].sequences):
            found.add(name)

    _until_stable(grammar, found, add)
    return frozenset(found)


def _until_stable(grammar: Grammar, found: set[str], add: Callable[[str], None]) -> None:
    """Go through the rules, forwards and backwards, until nothing more is found: rules refer mostly to neighbours."""
    names = list(grammar)
    while True:
        before = len(found)
        for name in (*names, *reversed(names)):
            add(name)
        if len(found) == before:
            return


def _can_be_empty(element: Element, empty: Set[str]) -> bool:
    if isinstance(element, Literal):
        return not element.text
    if isinstance(element, Group):
        return "" in element.texts
    return element.low == 0 or (isinstance(element, Reference) and element.rule in empty)


def _starts_in_word(sequence: Sequence, empty: Set[str], starts: Set[str]) -> bool:
    for element in sequence:
        if _touches(element, starts, 0):
            return True
        if not _can_be_empty(element, empty):
            return False
    return False


def _ends_in_word(sequence: Sequence, empty: Set[str], ends: Set[str]) -> bool:
    for element in reversed(sequence):
        if _touches(element, ends, -1):
            return True
        if not _can_be_empty(element, empty):
            return False
    return False


def _touches(element: Element, rules: Set[str], edge: int) -> bool:
    """Whether an element can have a character of a word at its edge, the first (0) or the last (-1) character."""
    if isinstance(element, Literal):
        return bool(element.text) and is_word_character(element.text[edge])
    if isinstance(element, Group):
        return any(text and is_word_character(text[edge]) for text in element.texts)
    if isinstance(element, CharacterClass):
        return element.has_word_character
    return element.rule in rules


def _repeats(element: Reference) -> bool:
    return element.high == UNBOUNDED or element.high > 1
