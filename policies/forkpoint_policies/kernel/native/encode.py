"""A program as flat numbers: what lies in the heaps. numpy only."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from forkpoint_policies.compile.program import (
    OF_ENTROPY,
    Action,
    CompiledRule,
    ControlKind,
    Curve,
    Program,
    Shape,
    Signal,
    TokenSet,
)

from . import columns as c

BY_OTHER_TOKENS = (ControlKind.PROBABILITY, ControlKind.DOSE)
"""Placebos that need a copy of the row without the tokens that they take."""
Ints = NDArray[np.int32]
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class EncodedProgram:
    ints: Ints
    floats: Floats


def encode_program(program: Program, vocabulary: int) -> EncodedProgram:
    """The numbers of a program, for a vocabulary of so many tokens."""
    size = c.HEAD + len(program.rules) * c.RULE_INTS
    parts: list[Ints] = []
    head = np.zeros(size, np.int32)

    def put(*arrays: NDArray[np.generic]) -> int:
        """Append arrays; the offset of the first."""
        nonlocal size
        begin = size
        for array in arrays:
            parts.append(array.astype(np.int32))
            size += len(array)
        return begin

    for number, rule in enumerate(program.rules):
        at = c.HEAD + number * c.RULE_INTS
        head[at : at + c.RULE_INTS] = _rule(rule, program.fires_by_token(rule), put)
    head[c.NUM_RULES] = len(program.rules)
    head[c.IS_SHADOW] = program.shadow
    head[c.REASONING_END] = program.reasoning_end
    head[c.USES] = _uses(program)
    head[c.WORD_FREE] = c.NONE
    if program.word_free:
        head[c.WORD_FREE] = put(_free_bits(program.word_free, vocabulary))
        head[c.MOVES], head[c.NUM_MOVES] = put(*in_buckets(_rows(program.moves, 3))), len(program.moves)
        tails = np.insert(_rows(program.tails, 2), 0, 0, axis=1)
        head[c.TAILS], head[c.NUM_TAILS] = put(*in_buckets(tails)), len(tails)
    head[c.REGIONS], head[c.NUM_REGIONS] = put(*in_buckets(_rows(program.regions, 3))), len(program.regions)
    floats = np.zeros(max(1, len(program.rules) * c.RULE_FLOATS), np.float32)
    for number, rule in enumerate(program.rules):
        at = number * c.RULE_FLOATS
        floats[at : at + c.NUM_SIGNALS] = rule.low
        floats[at + c.HIGH : at + c.HIGH + c.NUM_SIGNALS] = rule.high
        for offset, curve in ((c.PROBABILITY, rule.probability), (c.STRENGTH, rule.strength)):
            floats[at + offset : at + offset + 4] = (curve.shape, curve.a, curve.b, curve.c)
        floats[at + c.AT_TEMPERATURE] = rule.at_temperature
        floats[at + c.SPREAD] = rule.spread
    return EncodedProgram(np.concatenate((head, *parts)), floats)


def encode_sampled(sampled: Mapping[int, Sequence[int]], num_rules: int) -> Ints:
    """The tokens that replace rules' own in one request: per rule an offset and a count, then the tokens."""
    head, tokens, size = np.zeros(2 * num_rules, np.int32), [], 2 * num_rules
    for rule, chosen in sampled.items():
        head[2 * rule : 2 * rule + 2] = size, len(chosen)
        tokens.append(np.array(chosen, np.int32))
        size += len(chosen)
    return np.concatenate((head, *tokens))


def _rule(rule: CompiledRule, fires_by_token: bool, put: Callable[..., int]) -> list[int]:
    numbers = [0] * c.RULE_INTS
    replaced = rule.target if fires_by_token else TokenSet()
    for at, value in {
        c.ACTION: rule.action,
        c.CONTROL: rule.control,
        c.REGION: rule.region,
        c.FIRST_POSITION: rule.first_position,
        c.LAST_POSITION: rule.last_position,
        c.EVERY: max(rule.every, 1),
        c.AT_MOST: rule.at_most,
        c.SINCE_BELOW: rule.since_below,
        c.WINDOW: rule.window,
        c.NEEDS_PREVIOUS: int(rule.needs_previous),
        c.INSTEAD: int(rule.instead),
        c.BOUNDED: sum(1 << signal for signal in Signal if rule.bounds(signal)),
        c.HAS_COIN: int(rule.probability != Curve(Shape.CONSTANT, 1.0)),
        c.TEXT: put(np.array(rule.text, np.int32)),
        c.TEXT_LENGTH: len(rule.text),
        c.TARGET: put(np.array(rule.target.tokens, np.int32), np.array(rule.target.states, np.int32)),
        c.NUM_TARGET: len(rule.target.tokens),
        c.MASS: put(np.array(rule.mass.tokens, np.int32), np.array(rule.mass.states, np.int32)),
        c.NUM_MASS: len(rule.mass.tokens),
        c.SINCE: put(*_pairs(rule.since)),
        c.NUM_SINCE: len(rule.since.tokens),
        c.PREVIOUS: put(*_pairs(rule.previous)),
        c.NUM_PREVIOUS: len(rule.previous.tokens),
        c.REPLACED_TOKENS: put(*_pairs(replaced)),
        c.NUM_REPLACED: len(replaced.tokens),
        c.ENTROPY_WINDOW: rule.entropy_window,
        c.FIRES_BY_TOKEN: int(fires_by_token),
        c.FROM_HERE: int(rule.from_here),
    }.items():
        numbers[at] = int(value)
    return numbers


def in_buckets(rows: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Where each bucket begins, and the columns of rows that begin with a pair, by its hash as in source/automata.h.

    There are at least as many buckets as rows, so that a look-up reads one or two.
    """
    buckets = 1 << max(0, len(rows) - 1).bit_length()
    first, second = rows[:, 0].astype(np.uint32), rows[:, 1].astype(np.uint32)
    hashes = first * np.uint32(0x9E3779B1) ^ second * np.uint32(0x85EBCA77)
    hashes = (hashes ^ hashes >> np.uint32(15)) & np.uint32(buckets - 1)
    order = np.argsort(hashes, kind="stable")
    return [np.searchsorted(hashes[order], np.arange(buckets + 1)), *rows[order].T]


def _pairs(chosen: TokenSet) -> list[NDArray[np.int64]]:
    return in_buckets(_rows(list(zip(chosen.states, chosen.tokens, strict=True)), 2))


def _rows(rows: Sequence[tuple[int, ...]], width: int) -> NDArray[np.int64]:
    return np.array(rows, np.int64).reshape(-1, width)


def _free_bits(word_free: bytes, vocabulary: int) -> Ints:
    free = np.ones(-(-vocabulary // 32) * 32, np.uint8)
    bits = np.unpackbits(np.frombuffer(word_free, np.uint8), bitorder="little")[:vocabulary]
    free[: len(bits)] = bits
    return np.packbits(free, bitorder="little").view(np.int32)


def _uses(program: Program) -> int:
    rules = program.rules
    bounded = {signal for signal in Signal if any(rule.bounds(signal) for rule in rules)}
    by_chance = [rule for rule in rules if rule.control == ControlKind.POSITIONS]
    uses = 0
    for bit, used in (
        (c.USES_MARKS, any(rule.needs_previous or rule.since.tokens for rule in rules)),
        (c.USES_TEXTS, any(rule.action == Action.FORCE for rule in rules)),
        (c.USES_INSTEAD, any(rule.instead for rule in rules)),
        (c.USES_CHANCES, bool(by_chance)),
        (c.USES_HISTORY, Signal.RANK in bounded or any(rule.strength.shape in OF_ENTROPY for rule in by_chance)),
        (c.USES_WINDOW, Signal.CONFIDENCE in bounded),
        (c.USES_ENTROPIES, Signal.MEAN_ENTROPY in bounded),
        (c.USES_TEMPERATURES, any(rule.at_temperature != 1 for rule in rules)),
        (c.USES_END_RANK, Signal.END_RANK in bounded),
        (c.USES_TREE, program.tree_rule_index is not None),
        (c.USES_COPIES, program.shadow or any(rule.control in BY_OTHER_TOKENS for rule in rules)),
    ):
        uses |= bit if used else 0
    return uses
