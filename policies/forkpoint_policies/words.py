"""Words in a stream of tokens: which token would complete a word, given what was generated before.

A word can be spelled by many token sequences ("Wait", "W"+"ait", " w"+"a"+"it"). A small automaton follows the text: its state is
the longest part of a word that the text ends with. In each state it is known which tokens complete which word, so a word can be
suppressed in every spelling and only at its last piece; "Wa" stays free for "Water".

States: 0, a word may begin here; 1, inside some other word; from 2 on, the proper prefixes of the words, as tokens spell them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from .spec import PolicyError
from .vocabulary import Vocabulary, is_word_character

FREE, INSIDE, FIRST_PREFIX = 0, 1, 2
ANY_STATE = -1

Completion = tuple[int, int]
"""(state or ANY_STATE, token): in this state, this token completes the word."""


@dataclass(frozen=True)
class Automaton:
    """`completions[word]` as above. `moves[state, token]` is the next state where a prefix is begun or continued; otherwise it is
    `tails[token]` where the token ends with the beginning of a word, else 0 or 1 by the vocabulary's `ends_word_free`."""

    states: int
    completions: Mapping[str, tuple[Completion, ...]]
    moves: Mapping[tuple[int, int], int]
    tails: Mapping[int, int]
    prefixes: Mapping[bytes, int] = field(default_factory=dict)

    def longest_beginning(self, word: str) -> tuple[Completion, ...]:
        """The tokens that, where a word may begin, write the most of this one."""
        forms = spellings(word)
        best = [(len(prefix), state) for prefix, state in self.prefixes.items() if any(form.startswith(prefix) for form in forms)]
        for _, wanted in sorted(best, reverse=True):
            found = [(FREE, token) for (state, token), after in self.moves.items() if state == FREE and after == wanted]
            found += [(ANY_STATE, token) for token, after in self.tails.items() if after == wanted]
            if found:
                return tuple(found)
        return ()


def spellings(word: str) -> set[bytes]:
    """The byte strings to look for; ASCII case is folded by the vocabulary's index, other case is spelled out here."""
    return {form.encode().lower() for form in (word, word.lower(), word.upper(), word.title(), word.casefold())}


def build_automaton(words: Sequence[str], vocabulary: Vocabulary, path: str = "words") -> Automaton:
    """Follow these words through a vocabulary. Raises PolicyError for a word that no tokens can spell."""
    index = vocabulary.index
    forms: dict[bytes, list[str]] = {}
    for number, word in enumerate(dict.fromkeys(words)):
        try:
            for form in spellings(word.strip()):
                forms.setdefault(form, []).append(word)
        except UnicodeEncodeError:
            raise PolicyError(f"{path}[{number}]", f"the word {word!r} is not valid text") from None

    prefixes = sorted({form[:length] for form in forms for length in range(1, len(form))}, key=lambda prefix: (len(prefix), prefix))
    state_of = {prefix: FIRST_PREFIX + number for number, prefix in enumerate(prefixes)}
    found: dict[str, dict[Completion, None]] = {word: {} for word in words}
    moves: dict[tuple[int, int], int] = {}
    tails: dict[int, int] = {}

    for form, named in forms.items():
        for token in index.span.get(form, ()):
            for word in named:
                found[word][ANY_STATE, token] = None
    for prefix in prefixes:  # the longest beginning that a token ends with comes last and stays
        for token in index.tail.get(prefix, ()):
            tails[token] = state_of[prefix]

    sources: list[tuple[bytes, bytes, int]] = [(b"", b"", FREE)]
    for prefix in prefixes:
        sources += [(prefix, beginning, state_of[prefix]) for beginning in _endings(prefix, state_of)]
    for _, matched, state in sources:
        for form, named in forms.items():
            if not form.startswith(matched) or len(form) == len(matched):
                continue
            for token in index.head.get(form[len(matched) :], ()):
                for word in named:
                    if (ANY_STATE, token) not in found[word]:
                        found[word][state, token] = None
            for length in range(len(matched) + 1, len(form)):
                for token in index.whole.get(form[len(matched) : length], ()):
                    if moves.get((state, token), 0) < state_of[form[:length]]:
                        moves[state, token] = state_of[form[:length]]

    for number, word in enumerate(dict.fromkeys(words)):
        if not _can_be_spelled(found[word], moves, tails):
            raise PolicyError(f"{path}[{number}]", f"the tokenizer of the served model cannot write the word {word!r}")
    completions = {word: tuple(entries) for word, entries in found.items()}
    return Automaton(FIRST_PREFIX + len(prefixes), completions, moves, tails, state_of)


def _endings(prefix: bytes, state_of: Mapping[bytes, int]) -> list[bytes]:
    """What of a prefix may count as the beginning of a word: its shorter endings after a cut, then, to win, all of it."""
    text = prefix.decode(errors="replace")
    endings = []
    for begin in range(len(text) - 1, 0, -1):
        if not (is_word_character(text[begin - 1]) and is_word_character(text[begin])):
            ending = text[begin:].encode()
            if ending in state_of:
                endings.append(ending)
    if not is_word_character(text[-1]):
        endings.insert(0, b"")
    return [*endings, prefix]


def _can_be_spelled(entries: Mapping[Completion, None], moves: Mapping[tuple[int, int], int], tails: Mapping[int, int]) -> bool:
    reachable = {ANY_STATE, FREE, *tails.values()}
    frontier = {FREE, *tails.values()}
    while frontier:
        frontier = {after for (state, _), after in moves.items() if state in frontier} - reachable
        reachable |= frontier
    return any(state in reachable for state, _ in entries)
