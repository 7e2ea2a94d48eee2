"""The tables of the compiled step on a GPU.

What changes on the host is written before the next step, all at once and without waiting for the device.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from forkpoint_policies.kernel.step_types import Batch, StepRecord

from . import abi
from . import columns as c
from .admission import Admission
from .heap import FIRST_FLOATS, FIRST_INTS, Heap
from .table_shapes import row_shapes

FREE = np.full(c.SLOT_INTS, c.NONE, np.int32)
"""The numbers of a slot without a request."""
NUM_COPIES = 32
"""Of rows, for what must not be written to the logits: as many requests at a time can be in shadow or have a placebo
that moves other tokens; more wait for these."""
LARGE = ("chances", "history", "sums", "entropy_sums")
"""Tables that few programs use: they are made for the first that does."""


class Kernels(Protocol):
    """What runs on the device, after what was started before and without being waited for."""

    @property
    def part(self) -> int:
        """Tokens of a row that are measured together, PART in source/block.h."""
        ...

    def write(self, writes: abi.Writes, groups: int) -> None: ...

    def measure(self, tables: abi.Tables, batch: abi.Batch, step: abi.Step, parts: int) -> None: ...

    def step(self, tables: abi.Tables, batch: abi.Batch, step: abi.Step) -> None: ...


@dataclass
class _Pieces:
    """Numbers to be written, in groups: see Writes in source/block.h."""

    groups: list[tuple[int, int, int, int]] = field(default_factory=list)
    pieces: list[tuple[int, int, int]] = field(default_factory=list)
    numbers: list[NDArray[np.int32]] = field(default_factory=list)
    size: int = 0

    def group(self, pieces: Sequence[tuple[int, NDArray[np.generic]]], guard: int = 0, position: int = 0) -> None:
        """Write arrays to addresses; nothing if the number at `guard`, if that is one, is at most `position`."""
        begin = len(self.pieces)
        for address, values in pieces:
            own = np.ascontiguousarray(values).reshape(-1).view(np.int32)
            self.pieces.append((address, self.size, len(own)))
            self.numbers.append(own)
            self.size += len(own)
        self.groups.append((guard, position, begin, len(self.pieces)))

    def packed(self, pinned: bool) -> Tensor:
        """Groups, pieces and numbers, one after the other."""
        tables = [np.array(rows, np.int64).reshape(-1).view(np.int32) for rows in (self.groups, self.pieces)]
        packed = torch.empty(sum(map(len, tables)) + self.size, dtype=torch.int32, pin_memory=pinned)
        np.concatenate((*tables, *self.numbers), out=packed.numpy())
        return packed


class DeviceTables:
    """What the step on a device reads and writes. `depth` is the most rows that one request has in a step."""

    def __init__(self, slots: int, states: int, depth: int, device: torch.device, kernels: Kernels) -> None:
        self.depth = depth
        self.ints = Heap(np.int32, FIRST_INTS, watched=True)
        self.floats = Heap(np.float32, FIRST_FLOATS, watched=True)
        self._device, self._kernels = device, kernels
        self._shapes = row_shapes(slots, states, depth)
        self.tables: dict[str, Tensor] = {}
        self._heaps: dict[str, Tensor] = {}
        self._needs_copies = False
        self._copies: Tensor | None = None
        self._lent = torch.zeros(NUM_COPIES, dtype=torch.int32, device=device)
        for name in self._shapes:
            if name not in LARGE:
                self._make(name)
        self.tables["slots"].fill_(c.NONE)
        self._requests: dict[int, Admission | None] = {}  # by slot: what is to be written, None for a slot that is free
        self._states: dict[int, Admission] = {}  # by the row of their state

    def admit(self, request: Admission) -> None:
        """Write a request before the next step."""
        waiting = self._states.get(request.row)
        if waiting is not None and not waiting.resumes:  # removed before it was written: nothing of it is there
            request = replace(request, resumes=False)
        self._requests[request.slot] = self._states[request.row] = request

    def free(self, slot: int) -> None:
        """Nothing is to be done for a slot's rows from the next step on."""
        self._requests[slot] = None

    def step(self, batch: Batch, logits: Tensor, alternatives: int) -> StepRecord:
        """Apply the program of each row's slot to the [rows, vocabulary] float32 logits, in place.

        `alternatives` are the most that a request of the batch wants. Waits for the device only where a heap has grown.
        """
        self._write()
        values = logits if logits.stride(1) == 1 else logits.contiguous()
        rows, vocabulary = values.shape
        parts = -(-vocabulary // self._kernels.part)
        record = StepRecord.empty(rows, alternatives, self._device)
        moments = torch.empty(rows * parts * 4, device=self._device)
        slots, positions = batch.slots.int().contiguous(), batch.positions.long().contiguous()
        last_tokens, prompt_lens = batch.last_tokens.int().contiguous(), batch.prompt_lens.int().contiguous()
        hidden = None if batch.hidden is None else batch.hidden.float().contiguous()
        tables = abi.Tables(
            self._heaps["ints"].data_ptr(), self._heaps["floats"].data_ptr(),
            *(self.tables[name].data_ptr() if name in self.tables else 0 for name in abi.TABLES), self.depth,
        )  # fmt: skip
        of_batch = abi.Batch(
            slots.data_ptr(), positions.data_ptr(), last_tokens.data_ptr(), prompt_lens.data_ptr(),
            0 if hidden is None else hidden.data_ptr(), rows,
        )  # fmt: skip
        if self._needs_copies and (self._copies is None or self._copies.shape[2] < vocabulary):
            self._copies = torch.empty(NUM_COPIES, 2, vocabulary, device=self._device)
        copies = 0 if self._copies is None else self._copies.data_ptr()
        of_step = abi.Step.of(values, record, moments.data_ptr(), copies, self._lent.data_ptr(), NUM_COPIES)
        if rows:
            self._kernels.measure(tables, of_batch, of_step, parts)
            self._kernels.step(tables, of_batch, of_step)
        if values is not logits:
            logits.copy_(values)
        return record

    def _write(self) -> None:
        """Write what has changed since the last step."""
        pieces = _Pieces()
        for name, heap in (("ints", self.ints), ("floats", self.floats)):
            self._write_heap(name, heap, pieces)
        for slot, request in self._requests.items():
            pieces.group([(self._address("slots", slot), FREE if request is None else request.numbers)])
        for row, request in self._states.items():
            position = self._address("cells", row * self.depth) + 4 * c.POSITION
            cells = [
                (self._address(name, row * self.depth), np.tile(values, self.depth))
                for name, values in request.state.cells()
            ]
            rows = [(self._address(name, row), values) for name, values in request.state.rows()]
            pieces.group([*cells, *rows], position if request.resumes else 0, request.state.position)
            self._needs_copies |= request.uses_copies
        self._requests.clear()
        self._states.clear()
        if not pieces.groups:
            return
        packed = pieces.packed(self._device.type == "cuda").to(self._device, non_blocking=True)
        begin = packed.data_ptr()
        after_groups = begin + 32 * len(pieces.groups)
        writes = abi.Writes(begin, after_groups, after_groups + 24 * len(pieces.pieces))
        self._kernels.write(writes, len(pieces.groups))

    def _write_heap(self, name: str, heap: Heap, pieces: _Pieces) -> None:
        stored = heap.take_stored()
        if name not in self._heaps or len(self._heaps[name]) < len(heap.values):  # it has grown
            self._heaps[name] = torch.from_numpy(heap.values).to(self._device, copy=True)
            return
        for begin, end in stored:
            pieces.group([(self._heaps[name].data_ptr() + 4 * begin, heap.values[begin:end])])

    def _address(self, table: str, row: int) -> int:
        if table not in self.tables:
            self._make(table)
        own = self.tables[table]
        return own.data_ptr() + row * own.stride(0) * own.element_size()

    def _make(self, table: str) -> None:
        shape, dtype = self._shapes[table]
        self.tables[table] = torch.from_numpy(np.zeros(0, dtype)).new_zeros(shape, device=self._device)
