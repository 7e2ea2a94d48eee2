"""The signals of a choice's hidden states, by position: only of policies with a condition on one."""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from forkpoint_policies.compile.compiler import CompiledPolicy
from forkpoint_policies.compile.program import Signal
from forkpoint_policies.kernel.native.columns import NUM_HIDDEN

RANKS = ("effective_rank", "effective_rank_velocity", "effective_rank_acceleration")
READOUT = "readout."
"""What the signal of a readout is called begins so; its name follows."""


def signal_names(compiled: CompiledPolicy) -> tuple[str, ...]:
    """What the signals of a policy are called, in the order of kernel.native.columns.NUM_HIDDEN; empty for columns that
    it does not use."""
    ranks = RANKS if compiled.program.rank_span is not None else ("",) * len(RANKS)
    names = (*ranks, *(READOUT + name for name in compiled.readouts))
    return (*names, *[""] * (NUM_HIDDEN - len(names)))


@dataclass(frozen=True)
class SignalBounds:
    """What a policy's rules compare a signal with: it has to be above the one or below the other."""

    signal: str
    above: tuple[float, ...]
    below: tuple[float, ...]


def signal_bounds(compiled: CompiledPolicy) -> tuple[SignalBounds, ...]:
    """The bounds on the signals of a policy, each once and in ascending order; those without bounds are left out."""
    rules, found = compiled.program.rules, list[SignalBounds]()
    for signal, name in enumerate(signal_names(compiled), Signal.EFFECTIVE_RANK):
        if not name:
            continue
        above = {rule.low[signal] for rule in rules if math.isfinite(rule.low[signal])}
        below = {rule.high[signal] for rule in rules if math.isfinite(rule.high[signal])}
        if above or below:
            found.append(SignalBounds(name, tuple(sorted(above)), tuple(sorted(below))))
    return tuple(found)


def by_name(names: Sequence[str], values: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    """The columns of [n, NUM_HIDDEN] that have names; none where no value is known."""
    if not np.isfinite(values).any():
        return {}
    return {name: column for name, column in zip(names, values.T, strict=True) if name}


class HiddenSignals:
    """[tokens, NUM_HIDDEN], NaN where not known. A position that comes again replaces what was there."""

    def __init__(self) -> None:
        self._values = array("f")

    def add(self, token: int, values: NDArray[np.float32]) -> None:
        """Store the signals at a token, counted from the choice's first."""
        begin = token * NUM_HIDDEN
        if begin < 0:
            return
        if len(self._values) < begin + NUM_HIDDEN:
            self._values.extend([np.nan] * (begin + NUM_HIDDEN - len(self._values)))
        self._values[begin : begin + NUM_HIDDEN] = array("f", values.astype(np.float32).tobytes())

    def at(self, tokens: NDArray[np.int64]) -> NDArray[np.float32]:
        """[n, NUM_HIDDEN], at tokens [n]."""
        found = np.full((len(tokens), NUM_HIDDEN), np.nan, np.float32)
        if not self._values:
            return found
        stored = np.frombuffer(self._values, np.float32).reshape(-1, NUM_HIDDEN)
        known = tokens < len(stored)
        found[known] = stored[tokens[known]]
        return found

    def extend(self, other: HiddenSignals, tokens: int) -> None:
        """Append the signals of a choice that continues this one, of so many tokens."""
        del self._values[tokens * NUM_HIDDEN :]
        if other._values:
            self._values.extend([np.nan] * (tokens * NUM_HIDDEN - len(self._values)))
            self._values.extend(other._values)

    @property
    def num_bytes(self) -> int:
        return self._values.itemsize * len(self._values) * 9 // 8  # it has room to grow
