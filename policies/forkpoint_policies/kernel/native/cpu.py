"""The compiled step on a CPU and its tables: as many rows on each of torch's threads as are worth waking it."""

from __future__ import annotations

import ctypes
from functools import cache

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from forkpoint_policies.kernel.row_threads import num_parts, run_parts
from forkpoint_policies.kernel.step_types import Batch, StepRecord

from . import abi
from . import columns as c
from .admission import Admission
from .build import library
from .heap import FIRST_FLOATS, FIRST_INTS, Heap
from .table_shapes import row_shapes


@cache
def load() -> ctypes.CDLL:
    """The compiled step, made if it was not yet. Raises build.CompilerError."""
    found = ctypes.CDLL(str(library()))
    found.forkpoint_step.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, *[ctypes.c_longlong] * 2]
    found.forkpoint_step.restype = None
    return found


class HostTables:
    """What the step on a CPU reads and writes. `depth` is the most rows that one request has in a step.

    Raises CompilerError where the step cannot be compiled.
    """

    def __init__(self, slots: int, states: int, depth: int) -> None:
        load()
        self.depth = depth
        self.ints = Heap(np.int32, FIRST_INTS)
        self.floats = Heap(np.float32, FIRST_FLOATS)
        self.tables = {
            name: np.zeros(shape, dtype) for name, (shape, dtype) in row_shapes(slots, states, depth).items()
        }
        self.tables["slots"].fill(c.NONE)
        self._addresses = tuple(self.tables[name].ctypes.data for name in abi.TABLES)

    def admit(self, request: Admission) -> None:
        """Write a request."""
        tables, slot, row = self.tables, request.slot, request.row
        tables["slots"][slot] = request.numbers
        cells = slice(row * self.depth, (row + 1) * self.depth)
        if request.resumes and int(tables["cells"][cells.start, c.POSITION]) <= request.state.position:
            return
        for name, values in request.state.cells():
            tables[name][cells] = values
        for name, values in request.state.rows():
            tables[name][row] = values

    def free(self, slot: int) -> None:
        """Nothing is to be done for a slot's rows from now on."""
        self.tables["slots"][slot] = c.NONE

    def step(self, batch: Batch, logits: Tensor, alternatives: int) -> StepRecord:
        """Apply the program of each row's slot to the [rows, vocabulary] float32 logits, in place.

        `alternatives` are the most that a request of the batch wants.
        """
        values = logits if logits.stride(1) == 1 else logits.contiguous()
        rows, vocabulary = values.shape
        record = StepRecord.empty(rows, alternatives, values.device)
        slots, positions = batch.slots.int().contiguous(), batch.positions.long().contiguous()
        last_tokens, prompt_lens = batch.last_tokens.int().contiguous(), batch.prompt_lens.int().contiguous()
        hidden = None if batch.hidden is None else batch.hidden.float().contiguous()
        arguments = (
            abi.Tables(
                self.ints.values.ctypes.data, self.floats.values.ctypes.data, *self._addresses, self.depth,
            ),
            abi.Batch(
                slots.data_ptr(), positions.data_ptr(), last_tokens.data_ptr(), prompt_lens.data_ptr(),
                0 if hidden is None else hidden.data_ptr(), rows,
            ),
            abi.Step.of(values, record),
        )  # fmt: skip
        pointers = tuple(ctypes.addressof(one) for one in arguments)
        compiled = load().forkpoint_step
        run_parts(_bounds(slots.numpy(), vocabulary), lambda begin, end: compiled(*pointers, begin, end))
        if values is not logits:
            logits.copy_(values)
        return record


def _bounds(slots: NDArray[np.int32], vocabulary: int) -> list[int]:
    """Where the parts of a batch begin and end. A request's rows stay together."""
    parts = num_parts(len(slots), vocabulary)
    bounds = [0]
    for part in range(1, parts):
        bound = len(slots) * part // parts
        while bound < len(slots) and slots[bound] == slots[bound - 1]:
            bound += 1
        if bounds[-1] < bound < len(slots):
            bounds.append(bound)
    return [*bounds, len(slots)]
