"""Calls the compiled step on a CPU, for as many rows on each of torch's threads as are worth waking it."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass, fields
from functools import cache, cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from forkpoint_policies.kernel.row_threads import num_parts, run_parts
from forkpoint_policies.kernel.state_handover import HISTORY_BINS
from forkpoint_policies.kernel.step_types import Batch, StepRecord

from . import columns as c
from .build import library


@dataclass(frozen=True)
class Tables:
    """What is stored of the requests in slots; a slot has `depth` cells. tables.h says what the columns are."""

    slots: NDArray[np.int32]
    seeds: NDArray[np.int64]
    temperatures: NDArray[np.float32]
    cells: NDArray[np.int32]
    chances: NDArray[np.float32]
    history: NDArray[np.int32]
    sums: NDArray[np.float64]
    entropy_sums: NDArray[np.float64]

    @staticmethod
    def empty(slots: int, depth: int) -> Tables:
        return Tables(
            np.full((slots, c.SLOT_INTS), c.NONE, np.int32),
            np.zeros(slots, np.int64),
            np.zeros(slots, np.float32),
            np.zeros((slots * depth, c.CELL_INTS), np.int32),
            np.zeros((slots * depth, c.CELL_FLOATS), np.float32),
            np.zeros((slots, HISTORY_BINS), np.int32),
            np.zeros((slots, c.SUMS)),
            np.zeros((slots, c.SUMS)),
        )

    @cached_property
    def addresses(self) -> tuple[int, ...]:
        """In the order of the fields."""
        return tuple(getattr(self, one.name).ctypes.data for one in fields(self))


def _pointers(*names: str) -> list[tuple[str, type[ctypes.c_void_p]]]:
    return [(name, ctypes.c_void_p) for name in names]


class _Tables(ctypes.Structure):  # these three are declared in source/tables.h
    _fields_ = [*_pointers("heap", "floats", *(one.name for one in fields(Tables))), ("depth", ctypes.c_longlong)]


class _Batch(ctypes.Structure):
    _fields_ = [
        *_pointers("slots", "positions", "last_tokens", "prompt_lens", "hidden"),
        ("rows", ctypes.c_longlong),
    ]


class _Step(ctypes.Structure):
    _fields_ = [
        *_pointers("logits"),
        ("stride", ctypes.c_longlong),
        ("vocabulary", ctypes.c_longlong),
        *_pointers("record", "likeliest", "probabilities", "certainty"),
        ("alternatives", ctypes.c_longlong),
    ]


@cache
def load() -> ctypes.CDLL:
    """The compiled step, made if it was not yet. Raises build.CompilerError."""
    found = ctypes.CDLL(str(library()))
    found.forkpoint_step.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, *[ctypes.c_longlong] * 2]
    found.forkpoint_step.restype = None
    return found


def step(
    heap: NDArray[np.generic],
    floats: NDArray[np.generic],
    tables: Tables,
    depth: int,
    batch: Batch,
    logits: Tensor,
    alternatives: int,
) -> StepRecord:
    """Apply the program of each row's slot to the [rows, vocabulary] float32 logits, in place.

    `depth` is the cells of a slot, and `alternatives` the most that a request of the batch wants.
    """
    values = logits if logits.stride(1) == 1 else logits.contiguous()
    (rows, vocabulary), width = values.shape, max(1, alternatives)
    record = StepRecord(
        torch.empty(rows, c.RECORD_COLUMNS, dtype=torch.int32), torch.empty(rows, width, dtype=torch.int32),
        torch.empty(rows, width), torch.empty(rows),
    )  # fmt: skip
    slots, positions = np.ascontiguousarray(batch.slots, np.int32), batch.positions.long().contiguous()
    last_tokens, prompt_lens = batch.last_tokens.int().contiguous(), batch.prompt_lens.int().contiguous()
    hidden = None if batch.hidden is None else batch.hidden.float().contiguous()
    arguments = (
        _Tables(heap.ctypes.data, floats.ctypes.data, *tables.addresses, depth),
        _Batch(
            slots.ctypes.data, positions.data_ptr(), last_tokens.data_ptr(), prompt_lens.data_ptr(),
            0 if hidden is None else hidden.data_ptr(), rows,
        ),
        _Step(
            values.data_ptr(), values.stride(0), vocabulary, record.rows.data_ptr(), record.likeliest.data_ptr(),
            record.probabilities.data_ptr(), record.certainty.data_ptr(), width,
        ),
    )  # fmt: skip
    pointers = tuple(ctypes.addressof(one) for one in arguments)
    compiled = load().forkpoint_step
    run_parts(_bounds(slots, vocabulary), lambda begin, end: compiled(*pointers, begin, end))
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
