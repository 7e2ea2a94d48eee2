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

from forkpoint_policies.actions.discovery import ACTIONS
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

    low: Tensor  # [p, R, S] float32
    high: Tensor  # [p, R, S] float32
    region: Tensor  # [p, R] int64
    first_position: Tensor  # [p, R] int64
    last_position: Tensor  # [p, R] int64
    every: Tensor  # [p, R] int64
    at_most: Tensor  # [p, R] int64
    since_below: Tensor  # [p, R] int64
    window: Tensor  # [p, R] int64
    entropy_window: Tensor  # [p, R] int64
    at_temperature: Tensor  # [p, R] float32
    spread: Tensor  # [p, R] float32 nats, of placebos matched by dose
    needs_previous: Tensor  # [p, R] bool
    by_chance: Tensor  # [p, R] bool, the control that acts at random positions
    forces: Tensor  # [p, R] bool
    observes: Tensor  # [p, R] bool
    from_here: Tensor  # [p, R] bool, decided before it is known whether a text is written here
    instead: Tensor  # [p, R] bool
    by_token: Tensor  # [p, R] bool, of these, the ones in shadow: they fire where a token that they replace is sampled
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


def _look_up(keys: Tensor, values: Tensor, key: Tensor, default: Tensor) -> Tensor:
    at = torch.searchsorted(keys, key).clamp_(max=keys.numel() - 1)
    return torch.where(keys[at] == key, values[at], default)


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
    entropies: bool = False
    action_states: bool = False  # of actions that are files of their own

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
            entropies=Signal.MEAN_ENTROPY in bounded,
            action_states=any(rule.declared and ACTIONS[rule.declared].state_size for rule in rules),
        )


def _draws_entropy(rule: CompiledRule) -> bool:
    by_entropy = rule.strength.shape in (Shape.ENTROPY, Shape.POWER) or rule.action == Action.DECLARED
    return rule.control == ControlKind.POSITIONS and by_entropy


@dataclass(frozen=True)
class Acting:
    """An action of a program on the logits. `again`: a rule before it may have changed the distribution. `displaced`:
    a placebo changes other tokens instead, by probability or (`spread`) by dose."""

    rule: int
    action: Action
    again: bool
    displaced: bool
    keep: int = 0  # the k of a top-k
    spread: bool = False
    declared: str = ""  # the name of an action that is a file of its own


@dataclass(frozen=True)
class Facts:
    """What a batch needs to know of a program on the host: which parts its rows take part in."""

    acting: tuple[Acting, ...]
    shutting: tuple[Acting, ...]  # the forces that replace tokens that must not be sampled
    windowed: bool
    forcing: bool
    temperatures: frozenset[float] = frozenset()  # other than 1, at which some rule bounds entropies

    @staticmethod
    def of(program: Program) -> Facts:
        acting: list[Acting] = []
        for index, rule in enumerate(program.rules):
            if rule.action not in (*MARKS, Action.FORCE):
                keep = int(rule.strength.a) if rule.action == Action.TOP_K else 0
                displaced = rule.control in (ControlKind.PROBABILITY, ControlKind.DOSE)
                spread = rule.control == ControlKind.DOSE
                acting.append(Acting(index, Action(rule.action), bool(acting), displaced, keep, spread, rule.declared))
        instead = [
            index for index, rule in enumerate(program.rules) if rule.instead and rule.control != ControlKind.POSITIONS
        ]
        return Facts(
            tuple(acting),
            tuple(Acting(index, Action.FORCE, again=False, displaced=False) for index in instead),
            windowed=any(rule.window for rule in program.rules),
            forcing=any(rule.action == Action.FORCE for rule in program.rules),
            temperatures=frozenset(rule.at_temperature for rule in program.rules) - {1.0},
        )


@dataclass(frozen=True)
class ProgramTables:
    """One program, ready for the device: built once, and joined with others by offset for each set of programs.

    The keys are those of Moves and Marks for a program of index 0; None where the program names no words.
    """

    facts: Facts
    rules: Rules  # of one program
    move_keys: Tensor | None  # [E] int64, sorted
    move_values: Tensor | None  # [E] int64
    word_free: Tensor | None  # [vocabulary] bool
    mark_keys: Tensor | None  # [E] int64, sorted

    @cached_property
    def size_bytes(self) -> int:
        """What the tensors take on the device."""
        own = (self.move_keys, self.move_values, self.word_free, self.mark_keys)
        return sum(one.nbytes for one in (*vars(self.rules).values(), *own) if isinstance(one, Tensor))


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
    """The tables of some programs, built from nothing."""
    return join_tables(programs, [build_program_tables(one, vocabulary, device) for one in programs], vocabulary)


def build_program_tables(program: Program, vocabulary: int, device: torch.device) -> ProgramTables:
    """The tables of one program; each set of tokens is padded to a multiple of SET_CHUNK."""
    keys, values, free = _build_moves(program, vocabulary, device)
    return ProgramTables(
        Facts.of(program),
        _build_rules([program], device),
        keys,
        values,
        free,
        _build_marks(program, vocabulary, device),
    )


def join_tables(programs: Sequence[Program], parts: Sequence[ProgramTables], vocabulary: int) -> Tables:
    """The tables of a set of programs: theirs side by side, padded to the largest, the keys moved by an offset."""
    return Tables(
        tuple(programs),
        tuple(part.facts for part in parts),
        _join_rules([part.rules for part in parts]),
        _build_regions(programs, vocabulary, parts[0].rules.region.device),
        _join_moves(parts, vocabulary),
        _join_marks(parts, vocabulary),
        Uses.of(programs),
    )


def _join_rules(parts: Sequence[Rules]) -> Rules:
    joined = {}
    for one in fields(Rules):
        tensors = [getattr(part, one.name) for part in parts]
        shape = [max(sizes) for sizes in zip(*(tensor.shape[1:] for tensor in tensors), strict=True)]
        if all(list(tensor.shape[1:]) == shape for tensor in tensors):
            joined[one.name] = tensors[0] if len(tensors) == 1 else torch.cat(tensors)
            continue
        whole = tensors[0].new_full((len(tensors), *shape), _PADDING.get(one.name, 0))
        for index, tensor in enumerate(tensors):
            whole[(index, *(slice(size) for size in tensor.shape[1:]))] = tensor[0]
        joined[one.name] = whole
    return Rules(**joined)


def _join_moves(parts: Sequence[ProgramTables], vocabulary: int) -> Moves | None:
    """The automata of these programs, or None when none of them names a word. Sorted, as each one's keys are."""
    free = next((part.word_free for part in parts if part.word_free is not None), None)
    if free is None:
        return None
    keys, values = [free.new_full((1,), -1, dtype=torch.int64)], [free.new_full((1,), FREE, dtype=torch.int64)]
    for number, part in enumerate(parts):  # after one entry that nothing matches: a look-up always has where to land
        if part.move_keys is not None and part.move_values is not None:
            keys.append(part.move_keys + number * MAX_STATES * vocabulary)
            values.append(part.move_values)
    return Moves(torch.cat(keys), torch.cat(values), free, vocabulary)


def _join_marks(parts: Sequence[ProgramTables], vocabulary: int) -> Marks | None:
    span = len(Mark) * MAX_RULES * (MAX_STATES + 1) * vocabulary
    keys = [part.mark_keys + number * span for number, part in enumerate(parts) if part.mark_keys is not None]
    if not keys:
        return None
    rules = max(len(part.rules.region[0]) for part in parts)
    return Marks(torch.cat([keys[0].new_full((1,), -1), *keys]), rules, vocabulary)  # nothing matches the first


_PADDING = {"low": -np.inf, "high": np.inf, "target_states": NEVER, "mass_states": NEVER, "every": 1}
"""What padding holds where it is not 0; `at_most` 0 lets it never fire."""


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
    by_token = np.zeros(shape, np.bool_)
    for p, program in enumerate(programs):
        for r, rule in enumerate(program.rules):
            text[p, r, : len(rule.text)], length[p, r] = rule.text, len(rule.text)
            by_token[p, r] = program.fires_by_token(rule)
    arrays: dict[str, NDArray[np.generic]] = {
        "low": vectors("low", len(Signal), -np.inf),
        "high": vectors("high", len(Signal), np.inf),
        **{
            name: numbers(name)
            for name in (
                "region",
                "first_position",
                "last_position",
                "at_most",
                "since_below",
                "window",
                "entropy_window",
            )
        },
        "at_temperature": numbers("at_temperature", np.float32),
        "spread": numbers("spread", np.float32),
        "every": np.maximum(numbers("every"), 1),
        "needs_previous": numbers("needs_previous", np.bool_),
        "by_chance": control == ControlKind.POSITIONS,
        "forces": action == Action.FORCE,
        "observes": action == Action.OBSERVE,
        "from_here": numbers("from_here", np.bool_),
        "instead": numbers("instead", np.bool_),
        "by_token": by_token,
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


def _build_moves(
    program: Program, vocabulary: int, device: torch.device
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Sorted keys, values, and where a word may start; None for a program that names no words."""
    if not program.word_free:
        return None, None, None
    free = np.ones(vocabulary, np.bool_)
    bits = np.unpackbits(np.frombuffer(program.word_free, np.uint8), bitorder="little")[:vocabulary]
    free[: len(bits)] = bits.astype(np.bool_)  # the same for every program: it belongs to the tokenizer
    moves = np.array(program.moves, np.int64).reshape(-1, 3)
    tails = np.array(program.tails, np.int64).reshape(-1, 2)
    keys = np.concatenate((moves[:, 0] * vocabulary + moves[:, 1], (MAX_STATES - 1) * vocabulary + tails[:, 0]))
    values = np.concatenate((moves[:, 2], tails[:, 1]))
    order = np.argsort(keys)
    found = (torch.from_numpy(one).to(device) for one in (keys[order], values[order], free))
    return next(found), next(found), next(found)


def _build_marks(program: Program, vocabulary: int, device: torch.device) -> Tensor | None:
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


def belongs(states: Tensor, word_state: Tensor) -> Tensor:
    """Which tokens of padded sets [rows, …, L] count in each row's state of the automaton [rows]."""
    return (states == ANY_STATE) | (states == word_state.view(-1, *[1] * (states.dim() - 1)))


def padded(size: int) -> int:
    """The size of a set's padded row."""
    return -(-size // SET_CHUNK) * SET_CHUNK
