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
from .vocabulary import Vocabulary, cuts, is_word_character, leaves_word_free

FREE, INSIDE, FIRST_PREFIX = 0, 1, 2
ANY_STATE = -1
MOST_STATES = 1 << 13

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
    if len(prefixes) + FIRST_PREFIX >= MOST_STATES:
        raise PolicyError(path, f"are too many or too long: {len(prefixes)} beginnings to follow, {MOST_STATES} at most")
    state_of = {prefix: FIRST_PREFIX + number for number, prefix in enumerate(prefixes)}
    found: dict[str, dict[Completion, None]] = {word: {} for word in words}
    moves: dict[tuple[int, int], int] = {}
    tails: dict[int, int] = {}

    anywhere = {
        form for form in forms if not is_word_character(form.decode()[0])
    }  # nothing that stands before can be part of the word
    for form, named in forms.items():
        for token in (*index.span.get(form, ()), *(index.head.get(form, ()) if form in anywhere else ())):
            for word in named:
                found[word][ANY_STATE, token] = None
    for prefix in prefixes:  # the longest beginning that a token ends with comes last and stays
        begins_anywhere = any(form.startswith(prefix) for form in anywhere)
        for token in (*index.tail.get(prefix, ()), *(index.whole.get(prefix, ()) if begins_anywhere else ())):
            tails[token] = state_of[prefix]

    standing: dict[bytes, list[int]] = {b"": [FREE]}  # the states in which the text may count as ending with these bytes
    for prefix in prefixes:
        for beginning in _endings(prefix, state_of):
            standing.setdefault(beginning, []).append(state_of[prefix])
    for form, named in forms.items():
        for length in range(len(form)):
            states = standing.get(form[:length], ())
            for token in index.head.get(form[length:], ()):
                for word in named:
                    if (ANY_STATE, token) not in found[word]:
                        found[word].update(dict.fromkeys((state, token) for state in states))
            for further in range(length + 1, len(form)):
                after = state_of[form[:further]]
                for token in index.whole.get(form[length:further], ()):
                    for state in states:
                        moves[state, token] = max(after, moves.get((state, token), 0))

    reachable = _reachable(moves, tails)
    for number, word in enumerate(dict.fromkeys(words)):
        if not any(state in reachable for state, _ in found[word]):
            raise PolicyError(f"{path}[{number}]", f"the tokenizer of the served model cannot write the word {word!r}")
    completions = {word: tuple(entries) for word, entries in found.items()}
    return Automaton(FIRST_PREFIX + len(prefixes), completions, moves, tails, state_of)


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
