"""The rules of programs on the device, as tensors padded to the largest program, text and set of tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from forkpoint_policies.compile.program import Action, ControlKind, Curve, Program, Signal, TokenSet
from forkpoint_policies.compile.word_automaton import ANY_STATE

NEVER = -2  # the state of padding: no row is ever in it
SET_CHUNK = 64  # token sets are padded to a multiple, so that their sums do not depend on what else is in the batch

_PADDING = {"low": -np.inf, "high": np.inf, "target_states": NEVER, "mass_states": NEVER, "every": 1}
"""What padding holds where it is not 0; `at_most` 0 lets it never fire."""


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


def build_rules(programs: Sequence[Program], device: torch.device) -> Rules:
    """The rules of these programs; each set of tokens is padded to a multiple of SET_CHUNK."""
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


def join_rules(parts: Sequence[Rules]) -> Rules:
    """The rules of several programs, padded to the largest."""
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


def belongs(states: Tensor, word_state: Tensor) -> Tensor:
    """Which tokens of padded sets [rows, …, L] count in each row's state of the automaton [rows]."""
    return (states == ANY_STATE) | (states == word_state.view(-1, *[1] * (states.dim() - 1)))


def padded(size: int) -> int:
    """The size of a set's padded row."""
    return -(-size // SET_CHUNK) * SET_CHUNK
