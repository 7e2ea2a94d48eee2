"""Programs on the device: padded tensors from which the rows of a batch are gathered when the batch changes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .program import Action, Program, TokenSet
from .words import ANY_STATE, FREE, INSIDE, MOST_STATES

NEVER = -2  # the state of padding: no row is ever in it
SET_CHUNK = 64  # token sets are padded to a multiple, so that their sums do not depend on what else is in the batch


@dataclass(frozen=True)
class Rules:
    """The rules of some programs, padded: [programs or rows, rules, …].

    `low` and `high` bound (entropy, varentropy, top probability, connector mass), exclusive; padding rules can never fire.
    """

    action: Tensor  # [p, R] int64
    strength: Tensor  # [p, R] float32
    low: Tensor  # [p, R, 4] float32
    high: Tensor  # [p, R, 3] float32
    region: Tensor  # [p, R] int64
    first_position: Tensor  # [p, R] int64
    last_position: Tensor  # [p, R] int64
    at_most: Tensor  # [p, R] int64
    target_tokens: Tensor  # [p, R, L] int64
    target_states: Tensor  # [p, R, L] int64
    mass_tokens: Tensor  # [p, R, M] int64
    mass_states: Tensor  # [p, R, M] int64

    def rows(self, programs: Tensor) -> Rules:
        """The rules of each row of a batch, by its program's index."""
        return Rules(*(getattr(self, name)[programs] for name in self.__dataclass_fields__))


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
        tail = self._look_up(program, MOST_STATES - 1, token, default)
        return self._look_up(program, state, token, tail)

    def _look_up(self, program: Tensor, state: Tensor | int, token: Tensor, default: Tensor) -> Tensor:
        key = (program * MOST_STATES + state) * self.vocabulary + token
        at = torch.searchsorted(self.keys, key).clamp_(max=self.keys.numel() - 1)
        return torch.where(self.keys[at] == key, self.values[at], default)


def build_rules(programs: list[Program], device: torch.device) -> Rules:
    """Pad programs to the largest among them; each set to a multiple of SET_CHUNK."""
    count = max((len(program.rules) for program in programs), default=0)
    shape = (len(programs), count)
    width = _padded(len(rule.target.tokens) for program in programs for rule in program.rules)
    mass_width = _padded(len(rule.mass.tokens) for program in programs for rule in program.rules)
    action = np.full(shape, Action.OBSERVE)
    strength = np.ones(shape, np.float32)
    low = np.full((*shape, 4), -np.inf, np.float32)
    high = np.full((*shape, 3), np.inf, np.float32)
    region, first, last, at_most = (np.zeros(shape, np.int64) for _ in range(4))  # at_most 0: padding never fires
    targets = (np.zeros((*shape, width), np.int64), np.full((*shape, width), NEVER))
    masses = (np.zeros((*shape, mass_width), np.int64), np.full((*shape, mass_width), NEVER))
    for p, program in enumerate(programs):
        for r, rule in enumerate(program.rules):
            action[p, r], strength[p, r], region[p, r] = rule.action, rule.strength, rule.region
            low[p, r] = (rule.entropy_above, rule.varentropy_above, rule.top_probability_above, rule.mass_above)
            high[p, r] = (rule.entropy_below, rule.varentropy_below, rule.top_probability_below)
            first[p, r], last[p, r], at_most[p, r] = rule.first_position, rule.last_position, rule.at_most
            _fill(targets, (p, r), rule.target)
            _fill(masses, (p, r), rule.mass)
    arrays = (action, strength, low, high, region, first, last, at_most, *targets, *masses)
    return Rules(*(torch.from_numpy(array).to(device) for array in arrays))


def build_moves(programs: list[Program], vocabulary: int, device: torch.device) -> Moves | None:
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
            entries[(number * MOST_STATES + MOST_STATES - 1) * vocabulary + token] = after
        for state, token, after in program.moves:
            entries[(number * MOST_STATES + state) * vocabulary + token] = after
    keys = np.fromiter(entries.keys(), np.int64, len(entries))
    values = np.fromiter(entries.values(), np.int64, len(entries))
    order = np.argsort(keys)
    return Moves(
        torch.from_numpy(keys[order]).to(device),
        torch.from_numpy(values[order]).to(device),
        torch.from_numpy(free).to(device),
        vocabulary,
    )


def belongs(states: Tensor, word_state: Tensor) -> Tensor:
    """Which tokens of padded sets [rows, …, L] count, given each row's state of the automaton [rows]."""
    return (states == ANY_STATE) | (states == word_state.view(-1, *[1] * (states.dim() - 1)))


def _padded(sizes: Iterable[int]) -> int:
    largest = max(sizes, default=0)
    return -(-largest // SET_CHUNK) * SET_CHUNK


def _fill(arrays: tuple[np.ndarray, np.ndarray], at: tuple[int, int], tokens: TokenSet) -> None:
    arrays[0][at][: len(tokens.tokens)] = tokens.tokens
    arrays[1][at][: len(tokens.states)] = tokens.states
