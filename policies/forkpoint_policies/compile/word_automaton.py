"""Words in a stream of tokens: which token would complete a word after the text so far.

A word can be spelled by many token sequences ("Wait", "W"+"ait", " w"+"a"+"it"). A small automaton follows the text:
its state is the longest part of a word that the text ends with. In each state it is known which tokens complete which
word, so a word can be suppressed in every spelling and only at its last piece; "Wa" stays free for "Water".

States: 0, a word may start here; 1, inside some other word; from 2 on, the proper prefixes of the words, as tokens
spell them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple

from forkpoint_policies.spec import InputError

from .vocabulary import Vocabulary, cuts, is_word_character, leaves_word_free

FREE, INSIDE, FIRST_PREFIX = 0, 1, 2
ANY_STATE = -1
MAX_STATES = 1 << 13
MAX_ENTRIES = 1 << 17
"""Of an automaton's table; every connector family takes about 3,000 with a vocabulary of 152,000 tokens."""

Completion = tuple[int, int]
"""(state or ANY_STATE, token): in this state, this token completes the word."""


class NamedWord(NamedTuple):
    """A word to follow: in any case, or `cased`, exactly as it is written."""

    text: str
    cased: bool = False


class AutomatonSizeError(InputError):
    """One word, or ending, that cannot be followed through the vocabulary."""

    def __init__(self, field: str, message: str, written: str, ending: bool, cased: bool = False) -> None:
        self.written = written
        self.ending = ending
        self.cased = cased
        super().__init__(field, message)


@dataclass(frozen=True)
class Automaton:
    """`completions[word]` as above, `cased[word]` for words exactly as they are written, and `endings[text]` for those
    that leave the text ending so.

    `moves[state, token]` is the next state where a prefix starts or continues; otherwise it is `tails[token]` where the
    token ends with the beginning of a word, else 0 or 1 by the vocabulary's `ends_word_free`.
    """

    states: int
    completions: Mapping[str, tuple[Completion, ...]]
    moves: Mapping[tuple[int, int], int]
    tails: Mapping[int, int]
    endings: Mapping[str, tuple[Completion, ...]] = field(default_factory=dict)
    cased: Mapping[str, tuple[Completion, ...]] = field(default_factory=dict)

    def completing(self, word: NamedWord) -> tuple[Completion, ...]:
        """What completes a word."""
        return (self.cased if word.cased else self.completions)[word.text]

    @cached_property
    def states_before(self) -> Mapping[tuple[int, int], tuple[int, ...]]:
        """By token and next state, the states in which the token leads there by a move."""
        found: dict[tuple[int, int], list[int]] = {}
        for (state, token), after in self.moves.items():
            found.setdefault((token, after), []).append(state)
        return {key: tuple(states) for key, states in found.items()}


def spellings(word: str) -> set[bytes]:
    """The byte strings to look for; ASCII case is folded by the vocabulary's index, other case is spelled out here."""
    return {form.encode().lower() for form in (word, word.lower(), word.upper(), word.title(), word.casefold())}


def build_automaton(
    words: Sequence[str],
    vocabulary: Vocabulary,
    path: str = "words",
    endings: Sequence[str] = (),
    cased: Sequence[str] = (),
) -> Automaton:
    """Follow words and endings in any case, and `cased` words, through a vocabulary.

    Raises InputError for one that no tokens can spell.
    """
    if not cased:
        return _build(words, vocabulary, path, endings, _AnyCase(vocabulary))
    as_written = _build(cased, vocabulary, path, (), _AsWritten(vocabulary))
    as_written = replace(as_written, completions={}, cased=as_written.completions)
    if not words and not endings:
        return as_written
    return _side_by_side(_build(words, vocabulary, path, endings, _AnyCase(vocabulary)), as_written, vocabulary, path)


class _AnyCase:
    """Looks up the tokens that hold a piece of a word, in any case."""

    cased = False

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._index = vocabulary.index
        self.longest = self._index.longest

    def forms(self, word: str) -> set[bytes]:
        """What is looked for."""
        return spellings(word)

    def whole(self, piece: bytes) -> Sequence[int]:
        return self._index.whole.get(piece, ())

    def head(self, piece: bytes) -> Sequence[int]:
        return self._index.head.get(piece, ())

    def tail(self, piece: bytes) -> Sequence[int]:
        return self._index.tail.get(piece, ())

    def span(self, piece: bytes) -> Sequence[int]:
        return self._index.span.get(piece, ())


class _AsWritten(_AnyCase):
    """Of those tokens, the ones that hold the piece as it is written."""

    cased = True

    def __init__(self, vocabulary: Vocabulary) -> None:
        super().__init__(vocabulary)
        self._tokens = vocabulary.tokens

    def forms(self, word: str) -> set[bytes]:
        return {word.encode()}

    def whole(self, piece: bytes) -> Sequence[int]:
        return [one for one in super().whole(piece.lower()) if self._tokens[one] == piece]

    def head(self, piece: bytes) -> Sequence[int]:
        return [one for one in super().head(piece.lower()) if self._tokens[one].startswith(piece)]

    def tail(self, piece: bytes) -> Sequence[int]:
        return [one for one in super().tail(piece.lower()) if self._tokens[one].endswith(piece)]

    def span(self, piece: bytes) -> Sequence[int]:
        def holds(written: bytes) -> bool:
            inside = cuts(written)
            ends = {*inside, len(written)}
            return any(begin + len(piece) in ends and written.startswith(piece, begin) for begin in inside)

        return [one for one in super().span(piece.lower()) if holds(self._tokens[one])]


def _side_by_side(left: Automaton, right: Automaton, vocabulary: Vocabulary, path: str) -> Automaton:
    """Both automata at once: a state stands for one state of each. Raises InputError where that is too large."""
    free = vocabulary.index.ends_word_free

    def default(token: int) -> tuple[int, int]:
        plain = FREE if free[token] else INSIDE
        return left.tails.get(token, plain), right.tails.get(token, plain)

    moving: tuple[dict[int, list[int]], dict[int, list[int]]] = ({}, {})  # by state, the tokens that have a move
    for part, tokens_of in zip((left, right), moving, strict=True):
        for state, token in part.moves:
            tokens_of.setdefault(state, []).append(token)
    numbers: dict[tuple[int, int], int] = {(FREE, FREE): FREE, (INSIDE, INSIDE): INSIDE}
    moves: dict[tuple[int, int], int] = {}
    waiting = list(numbers)

    def number_of(pair: tuple[int, int]) -> int:
        if pair not in numbers:
            numbers[pair] = len(numbers)
            waiting.append(pair)
        return numbers[pair]

    tails = {token: number_of(default(token)) for token in {**left.tails, **right.tails}}
    while waiting:
        pair = waiting.pop()
        one, other = pair
        for token in {*moving[0].get(one, ()), *moving[1].get(other, ())}:
            otherwise = default(token)
            after = left.moves.get((one, token), otherwise[0]), right.moves.get((other, token), otherwise[1])
            moves[numbers[pair], token] = number_of(after)
        if len(numbers) >= MAX_STATES or len(moves) > MAX_ENTRIES:
            raise InputError(path, "are too many or too long to be followed both in any case and as written")

    def lifted(completions: Mapping[str, tuple[Completion, ...]], side: int) -> dict[str, tuple[Completion, ...]]:
        standing: dict[int, list[int]] = {ANY_STATE: [ANY_STATE]}
        for pair, number in numbers.items():
            standing.setdefault(pair[side], []).append(number)
        return {
            word: tuple((state, token) for before, token in entries for state in standing.get(before, ()))
            for word, entries in completions.items()
        }

    return Automaton(
        len(numbers),
        lifted(left.completions, 0),
        moves,
        tails,
        endings=lifted(left.endings, 0),
        cased=lifted(right.cased, 1),
    )


def _build(
    words: Sequence[str], vocabulary: Vocabulary, path: str, endings: Sequence[str], lookup: _AnyCase
) -> Automaton:
    forms: dict[bytes, list[int]] = {}  # the numbers of the words and endings that are written so
    words, endings = tuple(dict.fromkeys(words)), tuple(dict.fromkeys(endings))
    for number, written in enumerate((*words, *endings)):
        ending = number >= len(words)
        if ending and is_word_character(written[0]):
            said = f"the ending {written!r} starts inside a word; an ending starts with a sign or a space"
            raise AutomatonSizeError(path, said, written, ending, lookup.cased)
        try:
            for form in lookup.forms(written if ending else written.strip()):
                forms.setdefault(form, []).append(number)
        except UnicodeEncodeError:
            raise AutomatonSizeError(
                f"{path}[{number}]", f"the word {written!r} is not valid text", written, ending, lookup.cased
            ) from None

    prefixes = sorted(
        {form[:length] for form in forms for length in range(1, len(form))}, key=lambda prefix: (len(prefix), prefix)
    )
    if len(prefixes) + FIRST_PREFIX >= MAX_STATES:
        raise InputError(path, f"are too many or too long: {len(prefixes)} beginnings to follow, {MAX_STATES} at most")
    state_of = {prefix: FIRST_PREFIX + number for number, prefix in enumerate(prefixes)}
    found: list[dict[Completion, None]] = [{} for _ in (*words, *endings)]  # by number; a dict keeps the order
    moves: dict[tuple[int, int], int] = {}
    tails: dict[int, int] = {}
    entries = 0

    def check_size() -> None:
        if entries > MAX_ENTRIES:
            raise InputError(
                path, f"are too many or too long: more than {MAX_ENTRIES} ways to write them with this tokenizer"
            )

    anywhere = {
        form for form in forms if not is_word_character(form.decode()[0])
    }  # nothing that stands before can be part of the word
    for form, numbers in forms.items():
        for token in (*lookup.span(form), *(lookup.head(form) if form in anywhere else ())):
            for number in numbers:
                found[number][ANY_STATE, token] = None
    begin_anywhere = {form[:length] for form in anywhere for length in range(1, len(form))}
    for prefix in prefixes:  # the longest beginning that a token ends with comes last and stays
        for token in (*lookup.tail(prefix), *(lookup.whole(prefix) if prefix in begin_anywhere else ())):
            tails[token] = state_of[prefix]

    standing: dict[bytes, list[int]] = {
        b"": [FREE]
    }  # the states in which the text may count as ending with these bytes
    for prefix in prefixes:
        for beginning in _endings(prefix, state_of):
            standing.setdefault(beginning, []).append(state_of[prefix])
    for form, numbers in forms.items():
        for length in range(max(0, len(form) - lookup.longest), len(form)):
            states = standing.get(form[:length], ())
            for token in lookup.head(form[length:]):
                for number in numbers:
                    if (ANY_STATE, token) not in found[number]:
                        found[number].update(dict.fromkeys((state, token) for state in states))
                        entries += len(states)
            check_size()
    for prefix, after in state_of.items():
        for length in range(max(0, len(prefix) - lookup.longest), len(prefix)):
            states = standing.get(prefix[:length], ())
            for token in lookup.whole(prefix[length:]):
                for state in states:
                    moves[state, token] = max(after, moves.get((state, token), 0))
                entries += len(states)
        check_size()

    reachable = _reachable(moves, tails)
    for number, written in enumerate((*words, *endings)):
        if not any(state in reachable for state, _ in found[number]):
            ending = number >= len(words)
            what = f"the tokenizer of the served model cannot write the {'ending' if ending else 'word'} {written!r}"
            what += " in this case; leave `match` out to match it in any case" if lookup.cased else ""
            raise AutomatonSizeError(f"{path}[{number}]", what, written, ending, lookup.cased)
    return Automaton(
        states=FIRST_PREFIX + len(prefixes),
        completions={word: tuple(found[number]) for number, word in enumerate(words)},
        moves=moves,
        tails=tails,
        endings={
            ending: _at_the_end(found[number], ending, vocabulary) for number, ending in enumerate(endings, len(words))
        },
    )


def _at_the_end(entries: Iterable[Completion], ending: str, vocabulary: Vocabulary) -> tuple[Completion, ...]:
    """Of the tokens that complete an ending, those with nothing after it."""
    forms = spellings(ending)

    def ends(token: int) -> bool:
        written = vocabulary.tokens[token].lower()
        return any(written.endswith(form) or form.endswith(written) for form in forms)

    return tuple((state, token) for state, token in entries if ends(token))


def _endings(prefix: bytes, state_of: Mapping[bytes, int]) -> list[bytes]:
    """What of a prefix may count as the beginning of a word: its shorter endings after a cut, and all of it."""
    endings = [prefix[cut:] for cut in cuts(prefix) if prefix[cut:] in state_of]
    if leaves_word_free(prefix):
        endings.append(b"")
    return [*endings, prefix]


def _reachable(moves: Mapping[tuple[int, int], int], tails: Mapping[int, int]) -> set[int]:
    """The states that some tokens lead to."""
    after: dict[int, set[int]] = {}
    for (state, _), then in moves.items():
        after.setdefault(state, set()).add(then)
    reachable = {ANY_STATE}
    frontier = {FREE, *tails.values()}
    while frontier:
        reachable |= frontier
        frontier = {then for state in frontier for then in after.get(state, ())} - reachable
    return reachable
