"""Where a word of several tokens is decided: the token at which a bias on the word must act.

At the last token of "Altern"+"atively" the word is all but written; its bias acts on "Altern". In "double"+"-check" the
first token is a word of its own, so the bias acts on the last one.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .vocabulary import Vocabulary, is_marker_like, is_word_character
from .word_automaton import ANY_STATE, FREE, INSIDE, Automaton, Completion, NamedWord

FEW_WORDS = 4
"""A beginning decides a word if the tokenizer writes at most so many other words of its vocabulary with it."""

MAX_CANDIDATES = 64
"""Words with the same letters that are looked at; a beginning of more words decides nothing."""

Encode = Callable[[str], list[int]]


@dataclass(frozen=True)
class BiasedTokens:
    """The tokens on which a bias on a word acts, each once on the way to the word; `beginnings` are the texts of those
    that decide it before its last token."""

    entries: tuple[Completion, ...]
    beginnings: tuple[str, ...] = ()


def biased_tokens(word: NamedWord, automaton: Automaton, vocabulary: Vocabulary, encode: Encode | None) -> BiasedTokens:
    """The tokens that complete a word; in the spellings that the tokenizer itself writes, those that decide it."""
    completions = automaton.completing(word)
    spellings = [] if encode is None else _spellings(word, automaton, vocabulary, encode)
    decided = [(path, path[index]) for path, index in spellings if index < len(path) - 1]
    at_the_end = {path[-1].move for path, index in spellings if index == len(path) - 1}
    entries, beginnings = dict.fromkeys(completions), dict[str, None]()
    for path, step in decided:
        if path[-1].move in at_the_end:  # else the spellings that share it would have no bias, or this one two
            continue
        entries.pop(path[-1].move, None)
        entries |= dict.fromkeys(_at_beginning(step, automaton) if step.begins else [step.move])
        beginnings[vocabulary.tokens[step.token].decode(errors="replace").strip()] = None
    return BiasedTokens(tuple(entries), tuple(beginnings))


def marker_tokens(
    tokens: Sequence[int], marker: NamedWord, automaton: Automaton, vocabulary: Vocabulary
) -> tuple[Completion, ...]:
    """The token at which a marker of several tokens is decided: after the first that begins hardly anything else."""
    path = _path(tokens, automaton, vocabulary, marker)
    for step in path[:-1]:
        if is_marker_like(b"".join(vocabulary.tokens[token] for token in step.tokens)):
            return tuple(_at_beginning(step, automaton) if step.begins else [step.move])
    return automaton.completing(marker)


@dataclass(frozen=True)
class _Step:
    """A token on the way to a word: the automaton's states around it, and the tokens up to it."""

    token: int
    before: int
    after: int
    begins: bool
    tokens: tuple[int, ...]

    @property
    def move(self) -> Completion:
        return self.before, self.token


def _spellings(
    word: NamedWord, automaton: Automaton, vocabulary: Vocabulary, encode: Encode
) -> list[tuple[list[_Step], int]]:
    """The spellings of several tokens that the tokenizer writes, each with the index of the step that decides it."""
    found = []
    stripped = word.text.strip()
    others = () if word.cased else (stripped.lower(), stripped[:1].upper() + stripped[1:].lower())
    forms = dict.fromkeys((stripped, *others))
    one_token = any(state in (ANY_STATE, FREE) for state, _ in automaton.completing(word))
    for lead, form in ((lead, form) for form in forms for lead in ("", " ")):
        if one_token and not lead and form[:1].islower():  # rare, in the middle of a line: its pieces are others' too
            continue
        tokens = encode(lead + form)
        written = b"".join(vocabulary.tokens[token] for token in tokens)
        path = _path(tokens, automaton, vocabulary, word) if written == (lead + form).encode() else []
        if len(path) > 1:
            found.append((path, _decided_at(path, lead, form, vocabulary, encode)))
    return found


def _path(tokens: Sequence[int], automaton: Automaton, vocabulary: Vocabulary, word: NamedWord) -> list[_Step]:
    """The steps from the token that begins a word to the one that completes it; empty if none does."""
    completions = set(automaton.completing(word))
    free = vocabulary.index.ends_word_free
    state, path = FREE, list[_Step]()
    for number, token in enumerate(tokens):
        default = automaton.tails.get(token, FREE if free[token] else INSIDE)
        after = automaton.moves.get((state, token), default)
        path.append(_Step(token, state, after, not path, tuple(tokens[: number + 1])))
        if (state, token) in completions or (ANY_STATE, token) in completions:
            return path if number == len(tokens) - 1 else []
        if after in (FREE, INSIDE):  # a space before the word
            path = []
        state = after
    return []


def _decided_at(path: list[_Step], lead: str, form: str, vocabulary: Vocabulary, encode: Encode) -> int:
    """The index of the first step after which few other words can follow; that of the last one without any."""
    for index, step in enumerate(path[:-1]):
        written = b"".join(vocabulary.tokens[token] for token in step.tokens)
        try:
            beginning = written.decode().removeprefix(lead)
        except UnicodeDecodeError:
            continue
        following = form[len(beginning) : len(beginning) + 1]
        if not (is_word_character(beginning[-1]) and is_word_character(following)):
            continue
        if _num_others(beginning, lead, form, step.tokens, vocabulary, encode) <= FEW_WORDS:
            return index
    return len(path) - 1


def _num_others(
    beginning: str, lead: str, form: str, tokens: tuple[int, ...], vocabulary: Vocabulary, encode: Encode
) -> int:
    """How many other words of the vocabulary the tokenizer begins with these tokens, counted up to FEW_WORDS + 1."""
    lowered, words = beginning.lower(), vocabulary.words
    first = bisect_left(words, lowered)
    candidates = words[first : first + MAX_CANDIDATES]
    if len(candidates) == MAX_CANDIDATES and candidates[-1].startswith(lowered):
        return FEW_WORDS + 1
    others = 0
    for candidate in candidates:
        if not candidate.startswith(lowered):
            break
        if candidate.startswith(form.lower()) or (form.lower().startswith(candidate) and candidate != lowered):
            continue
        rest = candidate[len(lowered) :]
        spelled = encode(lead + beginning + rest)
        others += tuple(spelled[: len(tokens)]) == tokens
        if others > FEW_WORDS:
            break
    return others


def _at_beginning(step: _Step, automaton: Automaton) -> list[Completion]:
    """A token that begins a word, in every state in which it does."""
    if automaton.tails.get(step.token) == step.after:
        return [(ANY_STATE, step.token)]
    return [(state, step.token) for state in automaton.states_before[step.token, step.after]]
