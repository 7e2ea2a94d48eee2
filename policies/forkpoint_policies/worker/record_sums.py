"""Sums of records: what is counted of tokens whose records nobody reads one by one. numpy only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from struct import Struct
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from .records import RecordRows, num_columns, row_type

ENTROPY_BUCKETS_NATS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.2, 0.4, 0.672, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0)
NUM_BUCKETS = len(ENTROPY_BUCKETS_NATS) + 1
"""With the last, of all that is larger."""
EXECUTION, PLANNING = ROLES = (0, 1)

_UPPER_BOUNDS = np.array((*ENTROPY_BUCKETS_NATS, np.inf))
_BINS = NUM_BUCKETS + 1  # of a role; the last is for NaN
_FLAGS = len(ROLES) * _BINS  # the first count after the bins: how many were left alone, forced, refused
_FIRED = _FLAGS + 3
_EFFECT = len(ROLES)
_HEADER = Struct("=iiii")
_Number = TypeVar("_Number", np.int64, np.float64)
NUM_FRAMES = 6


@dataclass(frozen=True)
class RecordSums:
    """Sums over the records of m choices with up to R rules; entropies by role, PLANNING above the fork threshold."""

    counts: NDArray[np.int64]  # [m, 2 _BINS + 3 + R]
    totals: NDArray[np.float64]  # [m, 2 + R]: entropy by role, effect by rule

    @property
    def buckets(self) -> NDArray[np.int64]:
        """[m, 2, NUM_BUCKETS], how many entropies are in each bucket; a NaN is in none."""
        return self._bins[:, :, :NUM_BUCKETS]

    @property
    def tokens(self) -> NDArray[np.int64]:
        """[m, 2]"""
        tokens: NDArray[np.int64] = self._bins.sum(axis=2)
        return tokens

    @property
    def entropy(self) -> NDArray[np.float64]:
        """[m, 2] nats"""
        return self.totals[:, :_EFFECT]

    @property
    def left_alone(self) -> NDArray[np.int64]:
        """[m]"""
        return self.counts[:, _FLAGS]

    @property
    def forced(self) -> NDArray[np.int64]:
        """[m]"""
        return self.counts[:, _FLAGS + 1]

    @property
    def refused(self) -> NDArray[np.int64]:
        """[m]"""
        return self.counts[:, _FLAGS + 2]

    @property
    def fired(self) -> NDArray[np.int64]:
        """[m, R]"""
        return self.counts[:, _FIRED:]

    @property
    def effect(self) -> NDArray[np.float64]:
        """[m, R], expected changed tokens"""
        return self.totals[:, _EFFECT:]

    def of(self, choice: int) -> RecordSums:
        """Those of one choice."""
        return RecordSums(self.counts[choice : choice + 1], self.totals[choice : choice + 1])

    @property
    def _bins(self) -> NDArray[np.int64]:
        return self.counts[:, :_FLAGS].reshape(len(self.counts), len(ROLES), _BINS)


def sum_records(
    choice: NDArray[np.integer],
    num_choices: int,
    fork_threshold: float,
    entropy: NDArray[np.float32],
    flags: Sequence[NDArray[np.bool_]],
    fired: NDArray[np.bool_],
    effect: NDArray[np.float32],
) -> RecordSums:
    """The sums of n records, of which `choice` [n] says whose each is.

    `fork_threshold` and `entropy` [n] are in nats. `flags` are left_alone, forced and refused, [n] each; `fired` and
    `effect` are [n, R]. Numbers are added in the order of the records, as float64.
    """
    role = choice * len(ROLES) + (entropy > fork_threshold)
    bins = np.bincount(
        role * _BINS + np.searchsorted(_UPPER_BOUNDS, entropy), minlength=num_choices * len(ROLES) * _BINS
    )
    entropies = np.bincount(role, entropy, num_choices * len(ROLES))
    happened = [np.bincount(choice[flag], minlength=num_choices) for flag in (*flags, *fired.T)]
    effects = [np.bincount(choice, of_rule, num_choices) for of_rule in effect.T]
    return RecordSums(
        np.column_stack([bins.reshape(num_choices, len(ROLES) * _BINS), *happened]),
        np.column_stack([entropies.reshape(num_choices, len(ROLES)), *effects]),
    )


NOTHING = sum_records(
    np.zeros(0, np.intp), 1, 0.0, np.zeros(0, np.float32), [np.zeros(0, np.bool_)] * 3,
    np.zeros((0, 0), np.bool_), np.zeros((0, 0), np.float32),
)  # fmt: skip
"""Of one choice without records."""


def add_up(parts: Sequence[RecordSums]) -> RecordSums:
    """The sums of several choices, one a part, as those of one. The part with the most rules gives their number."""
    if len(parts) == 1:
        return parts[0]
    counts, totals = zip(*((part.counts[0], part.totals[0]) for part in parts), strict=True)
    return RecordSums(_added(counts)[None], _added(totals)[None])


def _added(parts: Sequence[NDArray[_Number]]) -> NDArray[_Number]:
    total = np.zeros(max(map(len, parts)), parts[0].dtype)
    for part in parts:
        total[: len(part)] += part
    return total


@dataclass(frozen=True)
class SumsMessage:
    """Sums of the records of m choices, and records of choices that may have ended, as `records.row_type(rules)`.

    The sums of a choice are of `count` records, at positions from `first` to before `end`.
    """

    places: NDArray[np.int32]  # [m, 4]: handle, first, end, count
    sums: RecordSums  # of m
    seconds: NDArray[np.float64]  # of each step that is in it, on the worker's host
    rules: int
    rows: bytes  # int32 [n, columns]

    @property
    def record_rows(self) -> RecordRows:
        """The rows, to be read."""
        columns = num_columns(row_type(self.rules))
        return RecordRows(np.frombuffer(self.rows, np.int32).reshape(-1, columns), self.rules)

    @property
    def num_tokens(self) -> int:
        return int(self.places[:, 3].sum()) + len(self.record_rows.values)

    def encode(self) -> list[bytes]:
        """The frames of the message."""
        header = _HEADER.pack(len(self.places), self.sums.fired.shape[1], len(self.seconds), self.rules)
        counts = self.sums.counts.astype(np.int32)
        return [
            header, self.places.tobytes(), counts.tobytes(), self.sums.totals.tobytes(), self.seconds.tobytes(),
            self.rows,
        ]  # fmt: skip


def decode_sums(frames: Sequence[bytes]) -> SumsMessage:
    """Read such a message. Raises ValueError when it is not one."""
    if len(frames) != NUM_FRAMES or len(frames[0]) != _HEADER.size:
        raise ValueError("not sums of records")
    choices, summed_rules, steps, rules = _HEADER.unpack(frames[0])
    columns, lengths = num_columns(row_type(max(rules, 0))), [len(frame) for frame in frames[1:5]]
    expected = [16 * choices, 4 * choices * (_FIRED + summed_rules), 8 * choices * (_EFFECT + summed_rules), 8 * steps]
    if min(choices, summed_rules, steps, rules) < 0 or lengths != expected or len(frames[5]) % (4 * columns):
        raise ValueError("sums of records are not as long as their header says")
    return SumsMessage(
        np.frombuffer(frames[1], np.int32).reshape(choices, 4),
        RecordSums(
            np.frombuffer(frames[2], np.int32).reshape(choices, _FIRED + summed_rules).astype(np.int64),
            np.frombuffer(frames[3], np.float64).reshape(choices, _EFFECT + summed_rules),
        ),
        np.frombuffer(frames[4], np.float64),
        rules,
        frames[5],
    )
