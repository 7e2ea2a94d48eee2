"""A Program: a policy compiled for one vocabulary, as numbers, ready for the kernel and small enough to travel."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from enum import IntEnum
from hashlib import sha256
from typing import ClassVar

import msgspec
import numpy as np

from .regions import Region, next_state
from .word_automaton import FREE, INSIDE

_NUMBER_BYTES, _TUPLE_BYTES = 36, 56  # CPython's: an int and the reference to it, and an empty tuple with its header
NO_TOKEN = -1
UNLIMITED = 2**31 - 1
MAX_RECENT_WALKS = 8


class Action(IntEnum):
    """What a rule does. A force also stands for the end of the reasoning and for a stop: it writes those tokens.

    OBSERVE and TREE change nothing here: the position is reported, and the server starts further requests. STEER
    and RECYCLE change no logits either, but the states of the tokens after. RECYCLE_AGAIN has changed the logits before
    the step gets them. Truncations have the names of their fields in the language. DECLARED is an action that is a file
    of its own: the rule names it.
    """

    OBSERVE = 0
    MASK = 1
    BIAS = 2
    TEMPERATURE = 3
    LIKELIEST = 4
    TOP_K = 5
    TOP_P = 6
    MIN_P = 7
    TOP_H = 8
    FORCE = 9
    TREE = 10
    TOP_N_SIGMA = 11
    P_LESS = 12
    STEER = 13
    DECLARED = 14
    RECYCLE = 15
    RECYCLE_AGAIN = 16


TRUNCATIONS = (
    Action.LIKELIEST,
    Action.TOP_K,
    Action.TOP_P,
    Action.MIN_P,
    Action.TOP_H,
    Action.TOP_N_SIGMA,
    Action.P_LESS,
)
ON_SETS = (Action.MASK, Action.BIAS)
ON_STATES = (Action.STEER, Action.RECYCLE)
MARKS = (Action.OBSERVE, Action.TREE, *ON_STATES, Action.RECYCLE_AGAIN)
"""Those by which a step changes no logits."""


class ControlKind(IntEnum):
    """How a placebo differs from its rule; SAMPLED has tokens or a text sampled for each request, DOSE spreads the
    logits of tokens other than the rule's own at random, DIRECTION adds a vector of another direction."""

    NONE = 0
    SAMPLED = 1
    PROBABILITY = 2
    POSITIONS = 3
    DOSE = 4
    DIRECTION = 5


class RegionCode(IntEnum):
    ANY = 0
    REASONING = 1
    ANSWER = 2


class Signal(IntEnum):
    """What a rule's bounds are about. RANK is the share of the request's earlier entropies below this one; END_RANK
    the rank of the token that ends the reasoning, 1 for the likeliest; LIKELIEST is 1 where the likeliest token is one
    of those whose probabilities MASS sums, 0 elsewhere. From EFFECTIVE_RANK on, they are computed from
    the hidden states of the last layer, by the modules of `hidden`. READOUT_1 is the first readout that the policy
    names."""

    ENTROPY = 0
    VARENTROPY = 1
    TOP_PROBABILITY = 2
    MASS = 3
    RANK = 4
    CONFIDENCE = 5
    END_MARGIN = 6
    MEAN_ENTROPY = 7
    END_RANK = 8
    LIKELIEST = 9
    EFFECTIVE_RANK = 10
    RANK_VELOCITY = 11
    RANK_ACCELERATION = 12
    READOUT_1 = 13
    READOUT_2 = 14
    READOUT_3 = 15
    READOUT_4 = 16


class Shape(IntEnum):
    """How a number depends on the position, or on the entropy."""

    CONSTANT = 0
    LINEAR = 1
    TRIANGULAR = 2
    ENTROPY = 3
    POWER = 4


OF_ENTROPY = (Shape.ENTROPY, Shape.POWER)


class Curve(msgspec.Struct, frozen=True):
    """A number by its shape: CONSTANT a; LINEAR from a to b over c positions; TRIANGULAR of amplitude a and period b;
    ENTROPY a · b ^ (c / H); POWER a + b · H ^ c."""

    shape: int
    a: float
    b: float = 0.0
    c: float = 1.0


class TokenSet(msgspec.Struct, frozen=True):
    """Tokens, each with the state of the word automaton in which it belongs to the set (ANY_STATE: in every state)."""

    tokens: list[int] = []
    states: list[int] = []


class RankSpan(msgspec.Struct, frozen=True):
    """The effective rank is that of the last `window` tokens' states, every `stride` tokens."""

    window: int
    stride: int


class CompiledRule(msgspec.Struct, frozen=True):
    """A rule as numbers. `number` is its index in the policy; `low` and `high` are exclusive bounds by Signal, open
    ones infinite.

    `target` are the tokens acted on; of a force with `instead`, those that it replaces by its `text`. `vector` is the
    digest of what a rule adds to the states of so many tokens, the one drawn here first; with `from_here`, the one
    before. `layer` is the one that is run again for them. `declared` is the name of an action that is a file of its
    own, and `parameters` what its fields compiled to.
    """

    number: int
    action: int
    strength: Curve
    low: list[float]
    high: list[float]
    probability: Curve
    target: TokenSet = TokenSet()
    mass: TokenSet = TokenSet()
    since: TokenSet = TokenSet()
    previous: TokenSet = TokenSet()
    text: list[int] = []
    instead: bool = False
    control: int = ControlKind.NONE
    spread: float = 0.0  # of DOSE, nats
    since_below: int = UNLIMITED
    needs_previous: bool = False
    window: int = 0
    entropy_window: int = 0
    rank_window: int = 0
    rank_stride: int = 0
    at_temperature: float = 1.0
    region: int = RegionCode.ANY
    first_position: int = 0
    last_position: int = UNLIMITED
    every: int = 1
    at_most: int = UNLIMITED
    vector: str = ""
    layer: int = 0
    num_tokens: int = 0
    from_here: bool = False
    declared: str = ""
    parameters: list[float] = []

    def bounds(self, signal: Signal) -> bool:
        """Whether the rule depends on this signal."""
        return bool(np.isfinite(self.low[signal]) or np.isfinite(self.high[signal]))


class Program(msgspec.Struct, frozen=True):
    """A compiled policy. The rules that are decided before its step are the first ones: those with `from_here`, and
    RECYCLE_AGAIN.

    `regions` are the moves of compile.regions. `reasoning_end` is the token with which the end of the reasoning begins,
    NO_TOKEN where other texts begin with it too. `word_free` has a bit per token: may a word start after it; empty when
    the policy names no words. `readouts` are the digests of those whose values the rules bound.
    """

    rules: list[CompiledRule]
    shadow: bool
    regions: list[tuple[int, int, int]]
    reasoning_end: int
    moves: list[tuple[int, int, int]]
    tails: list[tuple[int, int]]
    word_free: bytes
    readouts: list[str] = []

    def follow(self, tokens: Iterable[int], word_state: int = FREE, region: int = Region.REASONING) -> tuple[int, int]:
        """The states of the word automaton and of the regions after these tokens."""
        walk = Walk.of(self)
        for token in tokens:
            word_state, region = walk.step(token, word_state, region)
        return word_state, region

    def fires_by_token(self, rule: CompiledRule) -> bool:
        """Whether a rule in shadow fires at those of its positions at which a token that it would replace is sampled.

        Its record says that the conditions held; that it fired is known with the next token.
        """
        return self.shadow and rule.instead and rule.control != ControlKind.POSITIONS

    @property
    def rank_span(self) -> RankSpan | None:
        """Over which tokens the effective rank is measured, and how often; None where no rule depends on it."""
        return next((RankSpan(rule.rank_window, rule.rank_stride) for rule in self.rules if rule.rank_window), None)

    @property
    def tree_rule_index(self) -> int | None:
        """The index of the rule whose action runs several engine requests."""
        return next((index for index, rule in enumerate(self.rules) if rule.action == Action.TREE), None)

    @property
    def draws_again(self) -> bool:
        """Whether a rule lets the model compute a position again."""
        return any(rule.action == Action.RECYCLE_AGAIN for rule in self.rules)

    @property
    def has_declared(self) -> bool:
        """Whether a rule's action is a file of its own."""
        return any(rule.action == Action.DECLARED for rule in self.rules)

    @property
    def size_bytes(self) -> int:
        """About what this object takes in memory: mostly the numbers of its automaton and its sets."""
        listed = [chosen for rule in self.rules for chosen in (rule.target, rule.mass, rule.since, rule.previous)]
        numbers = 3 * len(self.moves) + 2 * len(self.tails) + 2 * sum(len(chosen.tokens) for chosen in listed)
        tuples = len(self.moves) + len(self.tails)
        return numbers * _NUMBER_BYTES + tuples * _TUPLE_BYTES + len(self.word_free)

    def pack(self) -> bytes:
        return msgspec.msgpack.encode(self)

    @staticmethod
    def unpack(data: bytes) -> Program:
        return msgspec.msgpack.decode(data, type=Program)


class Walk:
    """Follows a program's tokens on the host, as the kernel does on the device."""

    _recent: ClassVar[OrderedDict[int, tuple[Program, Walk]]] = OrderedDict()
    """By the id of the program. The program is stored with it, so that no other one can have its id."""

    @staticmethod
    def of(program: Program) -> Walk:
        """The walk of a program, stored while it is among the last few: of a large one it takes long to make."""
        known = Walk._recent.pop(id(program), None) or (program, Walk(program))
        Walk._recent[id(program)] = known
        if len(Walk._recent) > MAX_RECENT_WALKS:
            Walk._recent.popitem(last=False)
        return known[1]

    def __init__(self, program: Program) -> None:
        self._regions = {(state, token): after for state, token, after in program.regions}
        self._moves = {(state, token): after for state, token, after in program.moves}
        self._tails = dict(program.tails)
        self._free = (
            np.unpackbits(np.frombuffer(program.word_free, np.uint8), bitorder="little") if program.word_free else None
        )

    def step(self, token: int, word_state: int, region: int) -> tuple[int, int]:
        """The states of the word automaton and of the regions after one more token; one that the vocabulary lacks
        changes nothing."""
        region = next_state(self._regions, region, token)
        if self._free is not None and 0 <= token < len(self._free):  # a client's prompt may hold any id
            default = self._tails.get(token, FREE if self._free[token] else INSIDE)
            word_state = self._moves.get((word_state, token), default)
        return word_state, region


def key_of(packed: bytes) -> str:
    """The name under which a worker keeps a program."""
    return sha256(packed).hexdigest()
