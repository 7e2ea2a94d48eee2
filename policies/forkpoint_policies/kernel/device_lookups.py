"""What follows a program's text on the device: sorted keys of (program, state, token), and what is found there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import torch
from torch import Tensor

from forkpoint_policies.compile.program import Program, TokenSet
from forkpoint_policies.compile.regions import HOME, MAX_REGION_STATES
from forkpoint_policies.compile.word_automaton import ANY_STATE, FREE, INSIDE, MAX_STATES
from forkpoint_policies.spec import MAX_RULES


class Mark(IntEnum):
    """What a generated token is looked up for."""

    SINCE = 0
    PREVIOUS = 1
    REPLACED = 2


@dataclass(frozen=True)
class Moves:
    """The word automata of all programs: sorted keys of (program, state, token) and the state that follows."""

    keys: Tensor  # [E] int64
    values: Tensor  # [E] int64
    word_free: Tensor  # [vocabulary] bool, whether a word may begin after the token
    vocabulary: int

    def follow(self, program: Tensor, state: Tensor, token: Tensor) -> Tensor:
        """The next state of each row, [rows] int64."""
        default = torch.where(self.word_free[token], FREE, INSIDE)
        tail = self._look_up(program, MAX_STATES - 1, token, default)
        return self._look_up(program, state, token, tail)

    def _look_up(self, program: Tensor, state: Tensor | int, token: Tensor, default: Tensor) -> Tensor:
        key = (program * MAX_STATES + state) * self.vocabulary + token
        return _look_up(self.keys, self.values, key, default)


@dataclass(frozen=True)
class RegionMoves:
    """The moves between the regions of all programs: sorted keys of (program, state, token) and the state that
    follows."""

    keys: Tensor  # [E] int64
    values: Tensor  # [E] int64
    vocabulary: int
    in_markers: bool  # some marker is several tokens, so that a state can be inside of one

    def follow(self, program: Tensor, state: Tensor, token: Tensor) -> Tensor:
        """The next state of each row, [rows] int64."""
        home = state & HOME
        after = self._look_up(program, home, token, home)
        return self._look_up(program, state, token, after) if self.in_markers else after

    def _look_up(self, program: Tensor, state: Tensor, token: Tensor, default: Tensor) -> Tensor:
        key = (program * MAX_REGION_STATES + state) * self.vocabulary + token
        return _look_up(self.keys, self.values, key, default)


@dataclass(frozen=True)
class Marks:
    """Which tokens, in which state of the automaton, are a connector, what a rule wants to have come before, or what a
    rule in shadow would replace: sorted keys."""

    keys: Tensor  # [E] int64
    rules: int
    vocabulary: int

    def hit(self, mark: Mark, program: Tensor, state: Tensor, token: Tensor) -> Tensor:
        """Whether each row's token, that came in this state, is marked for each rule, [rows, R] bool."""
        rule = torch.arange(self.rules, device=token.device)
        begin = (program[:, None] * len(Mark) + mark) * MAX_RULES + rule
        return self._has(begin, state, token) | self._has(begin, torch.full_like(state, ANY_STATE), token)

    def _has(self, begin: Tensor, state: Tensor, token: Tensor) -> Tensor:
        key = (begin * (MAX_STATES + 1) + (state + 1)[:, None]) * self.vocabulary + token[:, None]
        at = torch.searchsorted(self.keys, key).clamp_(max=self.keys.numel() - 1)
        return self.keys[at] == key


@dataclass(frozen=True)
class ProgramMoves:
    """The word automaton of one program, with the keys that Moves has for a program of index 0."""

    keys: Tensor  # [E] int64, sorted
    values: Tensor  # [E] int64
    word_free: Tensor  # [vocabulary] bool


def build_moves(program: Program, vocabulary: int, device: torch.device) -> ProgramMoves | None:
    """The word automaton of a program; None if it names no words."""
    if not program.word_free:
        return None
    free = np.ones(vocabulary, np.bool_)
    bits = np.unpackbits(np.frombuffer(program.word_free, np.uint8), bitorder="little")[:vocabulary]
    free[: len(bits)] = bits.astype(np.bool_)  # the same for every program: it belongs to the tokenizer
    moves = np.array(program.moves, np.int64).reshape(-1, 3)
    tails = np.array(program.tails, np.int64).reshape(-1, 2)
    keys = np.concatenate((moves[:, 0] * vocabulary + moves[:, 1], (MAX_STATES - 1) * vocabulary + tails[:, 0]))
    values = np.concatenate((moves[:, 2], tails[:, 1]))
    order = np.argsort(keys)
    return ProgramMoves(*(torch.from_numpy(one).to(device) for one in (keys[order], values[order], free)))


def build_marks(program: Program, vocabulary: int, device: torch.device) -> Tensor | None:
    """Sorted keys of the tokens that some rule looks for; None if none does."""
    found = [np.array([], np.int64)]
    for place, rule in enumerate(program.rules):
        replaced = rule.target if program.fires_by_token(rule) else TokenSet()
        for mark, chosen in ((Mark.SINCE, rule.since), (Mark.PREVIOUS, rule.previous), (Mark.REPLACED, replaced)):
            state = np.array(chosen.states, np.int64) + 1
            begin = mark * MAX_RULES + place
            found.append((begin * (MAX_STATES + 1) + state) * vocabulary + np.array(chosen.tokens, np.int64))
    keys = np.sort(np.concatenate(found))
    return torch.from_numpy(keys).to(device) if len(keys) else None


def build_regions(programs: Sequence[Program], vocabulary: int, device: torch.device) -> RegionMoves | None:
    """The moves between the regions of these programs, or None if they have none."""
    entries = sorted(
        ((number * MAX_REGION_STATES + state) * vocabulary + token, after)
        for number, program in enumerate(programs)
        for state, token, after in program.regions
    )
    if not entries:
        return None
    keys, values = torch.tensor(entries, device=device).T.contiguous()
    in_markers = any(state > HOME for program in programs for state, _, _ in program.regions)
    return RegionMoves(keys, values, vocabulary, in_markers)


def join_moves(parts: Sequence[ProgramMoves | None], vocabulary: int) -> Moves | None:
    """The automata of these programs, or None when none of them names a word. Sorted, as each one's keys are."""
    free = next((part.word_free for part in parts if part is not None), None)
    if free is None:
        return None
    keys, values = [free.new_full((1,), -1, dtype=torch.int64)], [free.new_full((1,), FREE, dtype=torch.int64)]
    for number, part in enumerate(parts):  # after one entry that nothing matches: a look-up always has where to land
        if part is not None:
            keys.append(part.keys + number * MAX_STATES * vocabulary)
            values.append(part.values)
    return Moves(torch.cat(keys), torch.cat(values), free, vocabulary)


def join_marks(parts: Sequence[Tensor | None], rules: int, vocabulary: int) -> Marks | None:
    """The marks of these programs, of which the largest has so many rules; None if none of them looks for a token."""
    span = len(Mark) * MAX_RULES * (MAX_STATES + 1) * vocabulary
    keys = [part + number * span for number, part in enumerate(parts) if part is not None]
    if not keys:
        return None
    return Marks(torch.cat([keys[0].new_full((1,), -1), *keys]), rules, vocabulary)  # nothing matches the first


def _look_up(keys: Tensor, values: Tensor, key: Tensor, default: Tensor) -> Tensor:
    at = torch.searchsorted(keys, key).clamp_(max=keys.numel() - 1)
    return torch.where(keys[at] == key, values[at], default)
