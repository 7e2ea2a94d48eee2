"""Records as they arrive, of all choices together; those of one choice are gathered when they are read.

A message has one row of each running choice, so that handing each row to its choice would cost more than all else.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from forkpoint_policies.worker.records import num_columns, row_type

MAX_ROWS = 16_384
"""With so many rows, all are handed to their choices: about a millisecond's work."""

Deliver = Callable[[int, int, int, bytes], None]
"""Takes a choice's handle, the columns of its rows, their rules, and the rows."""


@dataclass
class _Block:
    """Consecutive rows of one width; `first` is the number of the first since the log was empty."""

    columns: int
    rules: int
    first: int
    rows: bytearray = field(default_factory=bytearray)

    @property
    def branches(self) -> bool:
        return self.columns > num_columns(row_type(self.rules))

    @property
    def end(self) -> int:
        return self.first + len(self.rows) // (4 * self.columns)

    def values(self) -> NDArray[np.int32]:
        """A view, which must be released before rows are added."""
        return np.frombuffer(self.rows, np.int32).reshape(-1, self.columns)

    def holds(self, columns: int, rules: int) -> bool:
        """Whether rows of this width can be added, perhaps widened."""
        return rules <= self.rules and (self.branches or columns == num_columns(row_type(rules)))


class RecordLog:
    """The rows that were not read yet. A lock makes it safe to read a trace in a thread while records arrive.

    `listening` has the handles of choices whose rows are delivered with each message.
    """

    def __init__(self, deliver: Deliver) -> None:
        self.listening: set[int] = set()
        self._deliver = deliver
        self._blocks: list[_Block] = []
        self._num_rows = 0
        self._read: dict[int, int] = {}  # handle -> the rows before this number were delivered
        self._lock = threading.Lock()

    def add(self, columns: int, rules: int, rows: bytes) -> None:
        """Add rows of `row_type(rules)`, with or without the columns of branches."""
        with self._lock:
            last = self._blocks[-1] if self._blocks else None
            if last is None or not last.holds(columns, rules):
                last = _Block(columns, rules, self._num_rows)
                self._blocks.append(last)
            wide = last.columns == columns and last.rules == rules
            last.rows += rows if wide else _widened(rows, columns, rules, last)
            self._num_rows += len(rows) // (4 * columns)
            if self._num_rows >= MAX_ROWS:
                self._deliver_all()

    def read(self, handle: int) -> None:
        """Deliver the rows of one choice that were not delivered yet, in order of arrival."""
        with self._lock:
            begin = self._read.get(handle, 0)
            if begin == self._num_rows:
                return
            self._read[handle] = self._num_rows
            for block in self._blocks:
                if block.end > begin:
                    new = block.values()[max(0, begin - block.first) :]
                    own = new[np.flatnonzero(new[:, 0] == handle)]
                    if len(own):
                        self._deliver(handle, block.columns, block.rules, own.tobytes())
                    del new

    def forget(self, handle: int) -> None:
        """Stop listening for a choice that has ended."""
        self.listening.discard(handle)
        self._read.pop(handle, None)

    def _deliver_all(self) -> None:
        for block in self._blocks:
            values = block.values()
            order = values[:, 0].argsort(kind="stable")
            values = values[order]
            handles, starts = np.unique(values[:, 0], return_index=True)
            ends = [*starts[1:].tolist(), len(values)]
            for handle, start, end in zip(handles.tolist(), starts.tolist(), ends, strict=True):
                delivered = self._read.get(handle, 0) - block.first
                first = start + int(np.searchsorted(order[start:end], delivered))
                if first < end:
                    self._deliver(handle, block.columns, block.rules, values[first:end].tobytes())
        self._blocks, self._num_rows, self._read = [], 0, {}


def _widened(rows: bytes, columns: int, rules: int, block: _Block) -> bytes:
    """Rows with the columns of a block: zeros for the rules, and for what a branch needs, that they do not have."""
    narrow = np.frombuffer(rows, np.int32).reshape(-1, columns)
    wide = np.zeros((len(narrow), block.columns), np.int32)
    head = num_columns(row_type(0))
    wide[:, : head + rules] = narrow[:, : head + rules]
    if columns > head + rules:
        target, source = head + block.rules, head + rules
        wide[:, target] = narrow[:, source]
        for number in (0, 1):  # held and placed
            wide_at, narrow_at = target + 1 + number * block.rules, source + 1 + number * rules
            wide[:, wide_at : wide_at + rules] = narrow[:, narrow_at : narrow_at + rules]
    return wide.tobytes()
