"""What a branch takes over: the state that its request's kernel would hold, had it written the shared tokens itself.

The server works it out from the tokens and the records of the path, so that a branch can begin late, and after its
trunk has ended.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, field

import msgspec
import numpy as np
from numpy.typing import NDArray

from forkpoint_policies.compile.program import ON_STATES, Program, TokenSet, Walk
from forkpoint_policies.compile.word_automaton import ANY_STATE
from forkpoint_policies.spec import MAX_WINDOW

HISTORY_BINS = 256
MIN_BIN_NATS, MAX_BIN_NATS = 1e-3, 16.0
LOGARITHMIC_BIN = math.log(MAX_BIN_NATS / MIN_BIN_NATS) / (HISTORY_BINS - 1)
"""A bin's width, in the logarithm of the entropy: 4 %."""

BIN_EDGES_NATS = (MIN_BIN_NATS * np.exp(np.arange(1, HISTORY_BINS) * LOGARITHMIC_BIN)).astype(np.float32)
"""Where each bin but the first starts: the same numbers on every device."""


class Decisions(msgspec.Struct, frozen=True):
    """Where rules fired that change hidden states: [k] positions, the rules (a bit each, in the program's order), both
    as int32, and the entropies there, as float32 bytes (nats)."""

    positions: bytes = b""
    fired: bytes = b""
    entropy: bytes = b""


class Inherited(msgspec.Struct, frozen=True):
    """The parts of slots.State after some tokens, by rule in the program's order; `history` as int32, `sums` and
    `entropy_sums` as float64, `actions` as float32 bytes. By its `decisions` the shared tokens are read again as they
    were."""

    fired: list[int]
    connector: list[int]
    previous: list[bool]
    held: list[float]
    placed: list[float]
    history: bytes
    sums: bytes
    entropy_sums: bytes = b""
    actions: bytes = b""
    decisions: Decisions = Decisions()

    def of_first(self, count: int) -> Inherited:
        """What a program of the first `count` rules alone takes over, none of which looks at windows."""
        return Inherited(
            self.fired[:count], self.connector[:count], self.previous[:count], self.held[:count], self.placed[:count],
            self.history, sums=b"",
        )  # fmt: skip


@dataclass(frozen=True)
class Past:
    """The records of the tokens that a branch starts with, in order: arrays of [q, …] as in kernel.Record.

    Where a token was written without being evaluated, `known` is false: confidence stays what it was, the rest does not
    count. `actions` are the states of the rules' actions after all of them, None where no action has one.
    """

    entropy: NDArray[np.float32]  # [q] nats
    fired: NDArray[np.bool_]  # [q, R]
    confidence: NDArray[np.float32]  # [q] nats
    held: NDArray[np.float32]  # [q, R]
    placed: NDArray[np.float32]  # [q, R]
    known: NDArray[np.bool_]  # [q]
    actions: NDArray[np.float32] | None = None  # [R, MAX_STATE]


@dataclass
class Path:
    """Where the tokens of an answer have led so far: in the automata of words and regions, and to which connectors."""

    program: Program
    word_state: int
    region: int
    length: int = 0
    connector: list[int] = field(default_factory=list)
    previous: list[bool] = field(default_factory=list)

    def __post_init__(self) -> None:
        rules = self.program.rules
        self.connector = self.connector or [0] * len(rules)
        self.previous = self.previous or [False] * len(rules)
        self._walk = Walk.of(self.program)
        self._since = [_members(rule.since) for rule in rules]
        self._before = [_members(rule.previous) for rule in rules]

    def copy(self) -> Path:
        """One that goes on from here by itself."""
        own = copy(self)
        own.connector = list(self.connector)
        return own

    def follow(self, tokens: Sequence[int]) -> Path:
        """Go on with these tokens."""
        for token in tokens:
            for rule, members in enumerate(self._since):
                if _hit(members, self.word_state, token):
                    self.connector[rule] = self.length
            self.previous = [_hit(members, self.word_state, token) for members in self._before]
            self.word_state, self.region = self._walk.step(token, self.word_state, self.region)
            self.length += 1
        return self

    def inherit(self, past: Past) -> Inherited:
        """What a branch from here takes over, from the records of all these tokens.

        Raises ValueError when some are missing.
        """
        if len(past.entropy) != self.length:
            raise ValueError(f"{self.length} tokens, but records of {len(past.entropy)}")
        rules = self.program.rules
        return Inherited(
            fired=past.fired.sum(axis=0, dtype=np.int64).tolist(),
            connector=list(self.connector),
            previous=list(self.previous),
            held=past.held.sum(axis=0, dtype=np.float64).tolist(),
            placed=past.placed.sum(axis=0, dtype=np.float64).tolist(),
            history=np.bincount(bins_of(past.entropy[past.known]), minlength=HISTORY_BINS).astype(np.int32).tobytes(),
            sums=_sums(past.confidence).tobytes() if any(rule.window for rule in rules) else b"",
            entropy_sums=_sums(_filled(past)).tobytes() if any(rule.entropy_window for rule in rules) else b"",
            actions=b"" if past.actions is None else past.actions.tobytes(),
            decisions=_decisions(past, changes_of(past.fired, self.program)),
        )


def changes_of(fired: NDArray[np.bool_], program: Program) -> NDArray[np.int32]:
    """Of the rules that fired at each token, [q, R], those that change hidden states, a bit each: [q]."""
    bits = [0 if program.shadow or rule.action not in ON_STATES else 1 << i for i, rule in enumerate(program.rules)]
    found: NDArray[np.int32] = (fired * np.array(bits, np.int32)).sum(axis=1, dtype=np.int32)
    return found


def _decisions(past: Past, changes: NDArray[np.int32]) -> Decisions:
    at = np.flatnonzero(changes)
    return Decisions(at.astype(np.int32).tobytes(), changes[at].tobytes(), past.entropy[at].tobytes())


def bins_of(entropy: NDArray[np.float32]) -> NDArray[np.int64]:
    """Which of HISTORY_BINS an entropy (nats) lies in."""
    return np.searchsorted(BIN_EDGES_NATS, entropy, side="right")


def _filled(past: Past) -> NDArray[np.float32]:
    """The entropies; where a token was not evaluated, the one before it."""
    last = np.maximum.accumulate(np.where(past.known, np.arange(len(past.known)), 0))
    return np.asarray(past.entropy[last], np.float32)


def _sums(values: NDArray[np.float32]) -> NDArray[np.float64]:
    """Running sums as slots.Window keeps them: the sum before position p at p modulo MOST_WINDOW + 1."""
    running = np.concatenate(([0.0], np.cumsum(values, dtype=np.float64)))
    sums = np.zeros(MAX_WINDOW + 1)
    kept = np.arange(max(0, len(running) - (MAX_WINDOW + 1)), len(running))
    sums[kept % (MAX_WINDOW + 1)] = running[kept]
    return sums


def _members(chosen: TokenSet) -> frozenset[tuple[int, int]]:
    return frozenset(zip(chosen.states, chosen.tokens, strict=True))


def _hit(members: frozenset[tuple[int, int]], state: int, token: int) -> bool:
    return bool(members) and ((state, token) in members or (ANY_STATE, token) in members)
