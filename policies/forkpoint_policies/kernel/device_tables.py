"""Programs on the device: padded tensors from which the rows of a batch are gathered when the batch changes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from enum import IntEnum
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from forkpoint_policies.compile.program import (
    MARKS,
    Action,
    CompiledRule,
    ControlKind,
    Curve,
    Program,
    Shape,
    Signal,
    TokenSet,
)
from forkpoint_policies.compile.regions import HOME, MAX_REGION_STATES
from forkpoint_policies.compile.word_automaton import ANY_STATE, FREE, INSIDE, MAX_STATES
from forkpoint_policies.spec import MAX_RULES

NEVER = -2  # the state of padding: no row is ever in it
SET_CHUNK = 64  # token sets are padded to a multiple, so that their sums do not depend on what else is in the batch


@dataclass(frozen=True)
class Rules:
    """The rules of some programs, padded: [programs or rows, rules, …]. Padding rules can never fire.

    `low` and `high` are exclusive bounds by Signal; a curve is the four numbers of a program.Curve.
    """

    low: Tensor  # [p, R, 7] float32
    high: Tensor  # [p, R, 7] float32
    region: Tensor  # [p, R] int64
    first_position: Tensor  # [p, R] int64
    last_position: Tensor  # [p, R] int64
    every: Tensor  # [p, R] int64
    at_most: Tensor  # [p, R] int64
    since_below: Tensor  # [p, R] int64
    window: Tensor  # [p, R] int64
    needs_previous: Tensor  # [p, R] bool
    by_chance: Tensor  # [p, R] bool, the control that acts at random positions
    forces: Tensor  # [p, R] bool
    observes: Tensor  # [p, R] bool
    instead: Tensor  # [p, R] bool
    probability: Tensor  # [p, R, 4] float32
    strength: Tensor  # [p, R, 4] float32
    text_length: Tensor  # [p, R] int64
    text: Tensor  # [p, R, F] int64
    target_tokens: Tensor  # [p, R, L] int64
    target_states: Tensor  # [p, R, L] int64
    mass_tokens: Tensor  # [p, R, M] int64
    mass_states: Tensor  # [p, R, M] int64

    def rows(self, programs: Tensor) -> Rules:
        """The rules of each row of a batch, by its program's index."""
        return Rules(*(getattr(self, one.name)[programs] for one in fields(self)))

    def repeated(self, count: int) -> Rules:
        """The rules of so many rows that all have the only program; a view."""
        return Rules(
            *(tensor.expand(count, *tensor.shape[1:]) for tensor in (getattr(self, one.name) for one in fields(self)))
        )


class Mark(IntEnum):
    """What a generated token is looked up for."""

    SINCE = 0
    PREVIOUS = 1


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


def _look_up(keys: Tensor, values: Tensor, key: Tensor, default: Tensor) -> Tensor:
    at = torch.searchsorted(keys, key).clamp_(max=keys.numel() - 1)
    return torch.where(keys[at] == key, values[at], default)


@dataclass(frozen=True)
class Marks:
    """Which tokens, in which state of the automaton, are a connector or what a rule wants to have come before: sorted
    keys."""

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
class Uses:
    """Which parts of the language some programs use; what none uses costs nothing."""

    marks: bool
    texts: bool
    instead: bool
    chances: bool
    history: bool
    window: bool
    coins: bool
    since: bool
    branches: bool
    signals: tuple[int, ...]

    @staticmethod
    def of(programs: Iterable[Program]) -> Uses:
        rules = [rule for program in programs for rule in program.rules]
        chances = any(rule.control == ControlKind.POSITIONS for rule in rules)
        bounded = {Signal.ENTROPY, *(signal for signal in Signal if any(rule.bounds(signal) for rule in rules))}
        return Uses(
            marks=any(rule.needs_previous or rule.since.tokens for rule in rules),
            texts=any(rule.action == Action.FORCE for rule in rules),
            instead=any(rule.instead for rule in rules),
            chances=chances,
            history=Signal.RANK in bounded or any(_draws_entropy(rule) for rule in rules),
            window=Signal.CONFIDENCE in bounded,
            coins=any(rule.probability != Curve(Shape.CONSTANT, 1.0) for rule in rules),
            since=any(rule.since.tokens for rule in rules),
            branches=any(rule.action == Action.TREE for rule in rules),
            signals=tuple(sorted(bounded)),
        )


def _draws_entropy(rule: CompiledRule) -> bool:
    return rule.control == ControlKind.POSITIONS and rule.strength.shape == Shape.ENTROPY


@dataclass(frozen=True)
class Acting:
    """An action of a program on the logits. `again`: a rule before it may have changed the distribution. `displaced`:
    the same probability is moved among other tokens instead."""

    rule: int
    action: Action
    again: bool
    displaced: bool
    keep: int = 0  # the k of a top-k


@dataclass(frozen=True)
class Facts:
    """What a batch needs to know of a program on the host: which parts its rows take part in."""

    acting: tuple[Acting, ...]
    shutting: tuple[Acting, ...]  # the forces that replace tokens that must not be sampled
    windowed: bool
    forcing: bool

    @staticmethod
    def of(program: Program) -> Facts:
        acting: list[Acting] = []
        for index, rule in enumerate(program.rules):
            if rule.action not in (*MARKS, Action.FORCE):
                keep = int(rule.strength.a) if rule.action == Action.TOP_K else 0
                acting.append(
                    Acting(index, Action(rule.action), bool(acting), rule.control == ControlKind.PROBABILITY, keep)
                )
        instead = [
            index for index, rule in enumerate(program.rules) if rule.instead and rule.control != ControlKind.POSITIONS
        ]
        return Facts(
            tuple(acting),
            tuple(Acting(index, Action.FORCE, again=False, displaced=False) for index in instead),
            windowed=any(rule.window for rule in program.rules),
            forcing=any(rule.action == Action.FORCE for rule in program.rules),
        )


@dataclass(frozen=True)
class Tables:
    """Some programs, ready for the device."""

    programs: tuple[Program, ...]
    facts: tuple[Facts, ...]
    rules: Rules
    regions: RegionMoves | None
    moves: Moves | None
    marks: Marks | None
    uses: Uses

    @cached_property
    def size_bytes(self) -> int:
        """What the tensors take on the device."""
        parts = [part for part in (self.rules, self.regions, self.moves, self.marks) if part is not None]
        return sum(one.nbytes for part in parts for one in vars(part).values() if isinstance(one, Tensor))


def build_tables(programs: Sequence[Program], vocabulary: int, device: torch.device) -> Tables:
    """Pad programs to the largest among them; each set to a multiple of SET_CHUNK."""
    return Tables(
        tuple(programs),
        tuple(Facts.of(program) for program in programs),
        _build_rules(programs, device),
        _build_regions(programs, vocabulary, device),
        _build_moves(programs, vocabulary, device),
        _build_marks(programs, vocabulary, device),
        Uses.of(programs),
    )


def _build_rules(programs: Sequence[Program], device: torch.device) -> Rules:
    every = [rule for program in programs for rule in program.rules]
    shape = (len(programs), max((len(program.rules) for program in programs), default=0))

    def numbers(name: str, kind: type[np.generic] = np.int64) -> NDArray[np.generic]:
        array = np.zeros(shape, kind)  # at_most 0: padding never fires
        for p, program in enumerate(programs):
            array[p, : len(program.rules)] = [getattr(rule, name) for rule in program.rules]
        return array

    def vectors(name: str, width: int, fill: float) -> NDArray[np.float32]:
        array = np.full((*shape, width), fill, np.float32)
        for p, program in enumerate(programs):
            for r, rule in enumerate(program.rules):
                value = getattr(rule, name)
                array[p, r] = (value.shape, value.a, value.b, value.c) if isinstance(value, Curve) else value
        return array

    def sets(name: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        width = padded(max((len(getattr(rule, name).tokens) for rule in every), default=0))
        tokens, states = np.zeros((*shape, width), np.int64), np.full((*shape, width), NEVER)
        for p, program in enumerate(programs):
            for r, rule in enumerate(program.rules):
                chosen: TokenSet = getattr(rule, name)
                tokens[p, r, : len(chosen.tokens)] = chosen.tokens
                states[p, r, : len(chosen.tokens)] = chosen.states
        return tokens, states

    text = np.zeros((*shape, max((len(rule.text) for rule in every), default=0)), np.int64)
    length, control, action = np.zeros(shape, np.int64), numbers("control"), numbers("action")
    for p, program in enumerate(programs):
        for r, rule in enumerate(program.rules):
            text[p, r, : len(rule.text)], length[p, r] = rule.text, len(rule.text)
    arrays: dict[str, NDArray[np.generic]] = {
        "low": vectors("low", len(Signal), -np.inf),
        "high": vectors("high", len(Signal), np.inf),
        **{
            name: numbers(name)
            for name in ("region", "first_position", "last_position", "at_most", "since_below", "window")
        },
        "every": np.maximum(numbers("every"), 1),
        "needs_previous": numbers("needs_previous", np.bool_),
        "by_chance": control == ControlKind.POSITIONS,
        "forces": action == Action.FORCE,
        "observes": action == Action.OBSERVE,
        "instead": numbers("instead", np.bool_),
        "probability": vectors("probability", 4, 0.0),
        "strength": vectors("strength", 4, 0.0),
        "text_length": length,
        "text": text,
    }
    arrays["target_tokens"], arrays["target_states"] = sets("target")
    arrays["mass_tokens"], arrays["mass_states"] = sets("mass")
    return Rules(**{name: torch.from_numpy(np.ascontiguousarray(array)).to(device) for name, array in arrays.items()})


def _build_regions(programs: Sequence[Program], vocabulary: int, device: torch.device) -> RegionMoves | None:
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


def _build_moves(programs: Sequence[Program], vocabulary: int, device: torch.device) -> Moves | None:
    """The automata of these programs, or None when none of them names a word."""
    if not any(program.word_free for program in programs):
        return None
    entries: dict[int, int] = {-1: FREE}  # one entry that nothing matches, so that a look-up always has where to land
    free = np.ones(vocabulary, np.bool_)
    for number, program in enumerate(programs):
        if not program.word_free:
            continue
        bits = np.unpackbits(np.frombuffer(program.word_free, np.uint8), bitorder="little")[:vocabulary]
        free[: len(bits)] = bits.astype(np.bool_)  # the same for every program: it belongs to the tokenizer
        for token, after in program.tails:
            entries[(number * MAX_STATES + MAX_STATES - 1) * vocabulary + token] = after
        for state, token, after in program.moves:
            entries[(number * MAX_STATES + state) * vocabulary + token] = after
    keys = np.fromiter(entries.keys(), np.int64, len(entries))
    values = np.fromiter(entries.values(), np.int64, len(entries))
    order = np.argsort(keys)
    return Moves(
        torch.from_numpy(keys[order]).to(device),
        torch.from_numpy(values[order]).to(device),
        torch.from_numpy(free).to(device),
        vocabulary,
    )


def _build_marks(programs: Sequence[Program], vocabulary: int, device: torch.device) -> Marks | None:
    rules = max((len(program.rules) for program in programs), default=0)
    found = [np.array([-1])]  # nothing matches it
    for number, program in enumerate(programs):
        for place, rule in enumerate(program.rules):
            for mark, chosen in ((Mark.SINCE, rule.since), (Mark.PREVIOUS, rule.previous)):
                begin = (number * len(Mark) + mark) * MAX_RULES + place
                state = np.array(chosen.states, np.int64) + 1
                found.append((begin * (MAX_STATES + 1) + state) * vocabulary + np.array(chosen.tokens, np.int64))
    keys = np.sort(np.concatenate(found))
    return Marks(torch.from_numpy(keys).to(device), rules, vocabulary) if len(keys) > 1 else None


def belongs(states: Tensor, word_state: Tensor) -> Tensor:
    """Which tokens of padded sets [rows, …, L] count in each row's state of the automaton [rows]."""
    return (states == ANY_STATE) | (states == word_state.view(-1, *[1] * (states.dim() - 1)))


def padded(size: int) -> int:
    """The size of a set's padded row."""
    return -(-size // SET_CHUNK) * SET_CHUNK
