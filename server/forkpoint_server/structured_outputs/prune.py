"""A grammar without the texts in which a banned word stands: they are dropped where the grammar would begin them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import groupby, product

from .banned_words import BannedWords
from .grammar import (
    ROOT,
    UNBOUNDED,
    CharacterClass,
    Element,
    Grammar,
    Group,
    Literal,
    Reference,
    Rule,
    Sequence,
)
from .neighbours import Neighbours

MAX_TEXTS = 256
"""Texts that a part of a grammar is written out as; a part that stands for more is left as it is."""

Texts = tuple[str, ...]
NOTHING: Texts = ("",)
"""The texts of an empty sequence."""


class NothingLeftError(ValueError):
    """Every text of the grammar has a banned word."""


def without_banned_words(grammar: Grammar, banned: BannedWords) -> Grammar:
    """The grammar of the remaining texts; the same object if no banned word was found.

    Each stretch of a sequence that stands for at most MAX_TEXTS fixed texts is written out, through the rules that it
    refers to, and those with a banned word are dropped. Raises NothingLeftError if no text remains.
    """
    neighbours, finite = Neighbours.of(grammar), FiniteTexts(grammar)
    pruned: Grammar = {}
    for name, rule in grammar.items():
        sequences = [_prune(name, one, banned, neighbours, finite) for one in rule.sequences]
        pruned[name] = replace(rule, sequences=tuple(one for one in sequences if one is not None))
    return grammar if pruned == grammar else _without_dead_rules(pruned)


def _prune(
    owner: str, sequence: Sequence, banned: BannedWords, neighbours: Neighbours, finite: FiniteTexts
) -> Sequence | None:
    """A sequence without banned words; None if none of its texts remains."""
    found: list[Element] = []
    for first, last, texts in _stretches(sequence, finite):
        if texts is None:
            found += sequence[first : last + 1]
            continue
        open_start = neighbours.open_start(owner, sequence, first)
        open_end = neighbours.open_end(owner, sequence, last)
        left = tuple(text for text in texts if not banned.stand_in(text, open_start, open_end))
        if not left:
            return None
        found += sequence[first : last + 1] if len(left) == len(texts) else [Group(left)]
    return tuple(found)


def _stretches(sequence: Sequence, finite: FiniteTexts) -> Iterator[tuple[int, int, Texts | None]]:
    """The first and the last index of each stretch of a sequence, and the texts that it stands for, if few."""
    each = [finite.of(element) for element in sequence]
    for is_finite, indices in groupby(range(len(sequence)), key=lambda index: each[index] is not None):
        first, texts = -1, NOTHING
        for index in indices:
            own = each[index]
            if not is_finite or own is None:
                yield index, index, None
                continue
            if first >= 0 and len(texts) * len(own) > MAX_TEXTS:
                yield first, index - 1, texts
                first, texts = -1, NOTHING
            first = index if first < 0 else first
            texts = tuple(dict.fromkeys(a + b for a, b in product(texts, own)))
        if first >= 0:
            yield first, index, texts


class FiniteTexts:
    """The texts of the parts of a grammar that stand for at most MAX_TEXTS."""

    def __init__(self, grammar: Grammar) -> None:
        self._grammar = grammar
        self._rules: dict[str, Texts | None] = {}

    def of(self, element: Element) -> Texts | None:
        if isinstance(element, Literal):
            return (element.text,)
        if isinstance(element, Group):
            return element.texts
        own = element.characters if isinstance(element, CharacterClass) else self._of_rule(element.rule)
        if own is None or element.high == UNBOUNDED:
            return None
        texts, repeated = dict.fromkeys(NOTHING if element.low == 0 else ()), NOTHING
        for count in range(1, element.high + 1):
            if len(repeated) * len(own) > MAX_TEXTS:
                return None
            repeated = tuple(dict.fromkeys(a + b for a, b in product(repeated, own)))
            if count >= element.low:
                texts |= dict.fromkeys(repeated)
            if len(texts) > MAX_TEXTS or count > MAX_TEXTS:
                return None
        return tuple(texts)

    def _of_rule(self, name: str) -> Texts | None:
        if name not in self._rules:
            self._rules[name] = None  # what refers to itself is not finite
            self._rules[name] = self._written_out(self._grammar[name])
        return self._rules[name]

    def _written_out(self, rule: Rule) -> Texts | None:
        if rule.opaque is not None or rule.lookahead or len(rule.sequences) > MAX_TEXTS:
            return None
        found: dict[str, None] = {}
        for sequence in rule.sequences:
            texts = NOTHING
            for element in sequence:
                own = self.of(element)
                if own is None or len(texts) * len(own) > MAX_TEXTS:
                    return None
                texts = tuple(dict.fromkeys(a + b for a, b in product(texts, own)))
            found |= dict.fromkeys(texts)
        return tuple(found) if len(found) <= MAX_TEXTS else None


def _without_dead_rules(grammar: Grammar) -> Grammar:
    """The grammar without rules that derive no text, and without the sequences that need one."""
    while dead := {name for name, rule in grammar.items() if rule.opaque is None and not rule.sequences}:
        if ROOT in dead:
            raise NothingLeftError
        grammar = {
            name: replace(rule, sequences=tuple(_without(one, dead) for one in rule.sequences if not _needs(one, dead)))
            for name, rule in grammar.items()
            if name not in dead
        }
    return grammar


def _needs(sequence: Sequence, dead: set[str]) -> bool:
    return any(isinstance(one, Reference) and one.rule in dead and one.low > 0 for one in sequence)


def _without(sequence: Sequence, dead: set[str]) -> Sequence:
    return tuple(one for one in sequence if not (isinstance(one, Reference) and one.rule in dead))
