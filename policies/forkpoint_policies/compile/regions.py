"""Regions of a stream of tokens, reasoning, answer and tool calls: an automaton that follows the markers between them.

A state is a whole number: bit 0 says whether the text is reasoning, bit 1 whether it is a tool call, bits 2 to 7 tell
apart regions of one kind, and the rest is the part of a marker that has been read. Without that part, a state is the
`home` of its region.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from functools import cached_property
from typing import Any

from .vocabulary import Vocabulary

IN_REASONING, IN_TOOL_CALL = 1, 2
HOME = 0xFF
MAX_REGION_STATES = 1 << 20
_NODE_SHIFT = 8
_NUMBER_SHIFT = 2

Move = tuple[int, int, int]
"""(state, token, next state)."""


class Region(IntEnum):
    """The home states of models that have one region of each kind."""

    ANSWER = 0
    REASONING = IN_REASONING
    TOOL_CALL = IN_TOOL_CALL
    TOOL_CALL_IN_REASONING = IN_REASONING | IN_TOOL_CALL


def home_state(region: Region, number: int) -> int:
    """The home of one of several regions of a kind."""
    return number << _NUMBER_SHIFT | region


@dataclass(frozen=True)
class Marker:
    """In the region `source`, `text` leads to the region `target` (both by their home states)."""

    source: int
    text: str
    target: int


@dataclass(frozen=True)
class Regions:
    """How a served model's regions follow each other.

    `moves` are those that do not simply stay at, or fall back to, the home state; a token without one from a state
    inside a marker moves as from that state's home. `completions` are the moves, by state and token, that complete a
    marker. An answer starts in `start`, unless its prompt says otherwise. `reasoning_start` and `reasoning_end` are the
    tokens of the markers that enclose the reasoning, as a policy or a chat template writes them. `unfollowed` says why
    the regions of this model cannot be followed, if they cannot.
    """

    moves: tuple[Move, ...] = ()
    completions: frozenset[tuple[int, int]] = frozenset()
    start: int = Region.REASONING
    reasoning_start: tuple[int, ...] = ()
    reasoning_end: tuple[int, ...] = ()
    unfollowed: str = ""
    uncounted: frozenset[int] = frozenset()  # tokens that are no reasoning: the model's special ones
    late: frozenset[tuple[int, int]] = frozenset()  # the moves whose token starts before the marker does

    @cached_property
    def has_reasoning(self) -> bool:
        """Whether reasoning and answer are told apart; without, all text counts as reasoning."""
        return any((state ^ after) & IN_REASONING for state, _, after in self.moves)

    @cached_property
    def next_states(self) -> dict[tuple[int, int], int]:
        """The moves, by state and token."""
        return {(state, token): after for state, token, after in self.moves}

    @cached_property
    def moving_tokens(self) -> frozenset[int]:
        """The tokens that have a move from some state."""
        return frozenset(token for _, token, _ in self.moves)

    @cached_property
    def special_tokens(self) -> frozenset[int]:
        """The tokens that have a move from some state, or that are no reasoning."""
        return self.moving_tokens | self.uncounted

    def follow(self, tokens: Iterable[int], state: int) -> int:
        """The state after these tokens."""
        moves = self.next_states
        for token in tokens:
            state = next_state(moves, state, token)
        return state

    def read(self, tokens: Sequence[int], state: int) -> RegionReader:
        """Read the tokens of an answer that starts in this state."""
        reader = RegionReader(self, state)
        reader.read(tokens)
        return reader


TOKENS_AT_ONCE = 64
"""So many tokens without a marker are read in one step."""

UNMARKED = Regions()
"""All text is reasoning, and nothing is a tool call."""


def next_state(moves: Mapping[tuple[int, int], int], state: int, token: int) -> int:
    """The state after one more token."""
    home = state & HOME
    after = moves.get((state, token))
    return moves.get((home, token), home) if after is None else after


@dataclass
class RegionReader:
    """Reads the tokens of one answer, which may still grow, from the state in which it starts.

    `in_reasoning` says of each token whether it was generated as reasoning. The marker of a tool call that ends the
    reasoning is not: clients receive it with the answer. `num_reasoning_tokens` leaves out all markers and special
    tokens, as vLLM does.
    `reasoning_end` is how many tokens come before the first marker that ends a reasoning, None without one, and
    `answer_start` how many come before the answer, the last such marker included.
    """

    regions: Regions
    state: int
    in_reasoning: bytearray = field(default_factory=bytearray)  # 1 or 0 of each
    num_reasoning_tokens: int = 0
    reasoning_end: int | None = None
    answer_start: int = 0
    _marker_start: int = 0  # the first token of the marker that is being read

    def read(self, tokens: Sequence[int]) -> None:
        """Read the tokens after those that were read before."""
        for begin in range(len(self.in_reasoning), len(tokens), TOKENS_AT_ONCE):
            end = min(begin + TOKENS_AT_ONCE, len(tokens))
            if self.state <= HOME and self.regions.special_tokens.isdisjoint(tokens[begin:end]):
                inside = bool(self.state & IN_REASONING)
                self.in_reasoning += bytes((inside,)) * (end - begin)
                self.num_reasoning_tokens += inside * (end - begin)
            else:
                self._read_each(tokens, begin, end)

    def _read_each(self, tokens: Sequence[int], begin: int, end: int) -> None:
        regions, moves = self.regions, self.regions.next_states
        for position in range(begin, end):
            token, state = tokens[position], self.state
            inside = bool(state & IN_REASONING)
            self.in_reasoning.append(inside)
            self.num_reasoning_tokens += inside and token not in regions.uncounted
            if state <= HOME and token not in regions.moving_tokens:
                continue
            move = (state, token) if (state, token) in moves else (state & HOME, token)
            self.state = moves.get(move, state & HOME)
            if move[0] <= HOME:  # a marker starts here, if any does
                self._marker_start = position + (move in regions.late)
            if move in regions.completions:
                self._complete(tokens[self._marker_start : position + 1], state)

    @property
    def ends_in_reasoning(self) -> bool:
        """Whether the tokens end within a reasoning; never where reasoning and answer are not told apart."""
        return self.regions.has_reasoning and bool(self.state & IN_REASONING)

    @property
    def ends_in_tool_call(self) -> bool:
        """Whether the tokens end within a tool call."""
        return bool(self.state & IN_TOOL_CALL)

    def _complete(self, marker: Sequence[int], before: int) -> None:
        """A marker that was read from the state `before` is complete."""
        if not before & IN_REASONING:
            return
        first, after = self._marker_start, self.state
        self.num_reasoning_tokens -= sum(token not in self.regions.uncounted for token in marker)
        if after & IN_REASONING:
            return
        self.reasoning_end = first if self.reasoning_end is None else self.reasoning_end
        self.answer_start = first if after & IN_TOOL_CALL else first + len(marker)
        if after & IN_TOOL_CALL:
            self.in_reasoning[first : first + len(marker)] = bytes(len(marker))


def build_regions(
    markers: Iterable[Marker], vocabulary: Vocabulary, single_tokens: Mapping[str, int] = {}, **fields: Any
) -> Regions:
    """Follow markers through a vocabulary, however its tokens spell them.

    A marker in `single_tokens` is that token and nothing else, as vLLM's parsers have it; the others are read as text.
    `fields` are the other fields of Regions.
    """
    texts: dict[int, dict[bytes, int]] = {}
    moves: dict[tuple[int, int], int] = {}
    completions: set[tuple[int, int]] = set()
    late: set[tuple[int, int]] = set()
    for marker in markers:
        if (token := single_tokens.get(marker.text)) is not None:
            moves[marker.source, token] = marker.target
            completions.add((marker.source, token))
        else:
            texts.setdefault(marker.source, {})[marker.text.encode()] = marker.target
    matcher = _Matcher(texts)
    readable = _Readable(vocabulary, frozenset(single_tokens.values()))
    for state, first_bytes, next_bytes in matcher.states():
        starting, continuing = readable.containing(first_bytes), readable.starting_with(next_bytes)
        for token in continuing if state > HOME else starting:
            written = vocabulary.tokens[token]
            after, completed, depth = matcher.read(state, written)
            if state <= HOME and after == state and not completed:
                continue
            moves[state, token] = after
            if completed:
                completions.add((state, token))
            if state <= HOME and depth < len(written):
                late.add((state, token))
    return Regions(
        moves=tuple((state, token, after) for (state, token), after in moves.items()),
        completions=frozenset(completions),
        late=frozenset(late),
        **fields,
    )


class _Readable:
    """The tokens whose text can be part of a marker, by their bytes."""

    def __init__(self, vocabulary: Vocabulary, excluded: frozenset[int]) -> None:
        self._tokens = [(token, text) for token, text in enumerate(vocabulary.tokens) if text and token not in excluded]
        self._by_first_byte: dict[int, list[int]] = {}
        for token, text in self._tokens:
            self._by_first_byte.setdefault(text[0], []).append(token)
        self._containing: dict[frozenset[int], list[int]] = {}

    def starting_with(self, values: frozenset[int]) -> list[int]:
        return [token for value in sorted(values) for token in self._by_first_byte.get(value, ())]

    def containing(self, values: frozenset[int]) -> list[int]:
        if values not in self._containing:
            wanted = [bytes([value]) for value in values]
            self._containing[values] = [token for token, text in self._tokens if any(value in text for value in wanted)]
        return self._containing[values]


class _Matcher:
    """Finds markers in bytes (Aho and Corasick, 1975), by the region in which they count."""

    def __init__(self, texts: Mapping[int, Mapping[bytes, int]]) -> None:
        self._target: dict[int, int] = {}  # of the states in which a marker is complete
        self._goto: dict[int, dict[int, int]] = {}
        self._fail: dict[int, int] = {}
        self._depth: dict[int, int] = {}
        node = 0
        for home, of_home in texts.items():
            self._goto.setdefault(home, {})
            for text, target in of_home.items():
                state = home
                for depth, byte in enumerate(text, 1):
                    after = self._goto[state].get(byte)
                    if after is None:
                        node += 1
                        after = self._goto[state][byte] = node << _NODE_SHIFT | home
                        self._goto[after], self._depth[after] = {}, depth
                    state = after
                self._target[state] = target
            waiting = deque(self._goto[home].values())
            self._fail.update(dict.fromkeys(waiting, home))
            while waiting:
                state = waiting.popleft()
                for byte, after in self._goto[state].items():
                    self._fail[after] = self._step(self._fail[state], byte)
                    waiting.append(after)

    def states(self) -> Iterator[tuple[int, frozenset[int], frozenset[int]]]:
        """Each state in which tokens can move, the bytes that start a marker there, and those that continue one."""
        for state, following in self._goto.items():
            if state not in self._target:
                going_on, shorter = set(following), state
                while shorter > HOME:
                    shorter = self._fail[shorter]
                    if shorter > HOME:
                        going_on.update(self._goto[shorter])
                yield state, frozenset(self._goto[state & HOME]), frozenset(going_on)

    def read(self, state: int, written: bytes) -> tuple[int, bool, int]:
        """The state after these bytes, whether they complete a marker, and how many of them belong to markers."""
        completed, marked = False, 0
        for byte in written:
            state = self._step(state, byte)
            if (target := self._target.get(state)) is not None:
                completed, marked = True, marked + self._depth[state]
                state = target
        return state, completed, marked + self._depth.get(state, 0)

    def _step(self, state: int, byte: int) -> int:
        while (after := self._goto.get(state, {}).get(byte)) is None and state > HOME:
            state = self._fail[state]
        return state if after is None else after


def single_token_regions(start: int, end: int) -> Regions:
    """Reasoning between two tokens that each are a whole marker."""
    moves: tuple[Move, ...] = (
        (Region.REASONING, start, Region.REASONING),
        (Region.ANSWER, start, Region.REASONING),
        (Region.REASONING, end, Region.ANSWER),
        (Region.ANSWER, end, Region.ANSWER),
    )
    return Regions(
        moves=moves,
        completions=frozenset((state, token) for state, token, _ in moves),
        reasoning_start=(start,),
        reasoning_end=(end,),
    )
