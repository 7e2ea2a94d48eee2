"""Calls the compiled step on a CPU, for as many rows on each of torch's threads as are worth waking it."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from forkpoint_policies.kernel.row_threads import num_parts, run_parts
from forkpoint_policies.kernel.step_types import Batch, StepRecord

from . import columns as c
from .build import library

_TABLES = ("heap", "floats", "slots", "seeds", "temperatures", "cells", "chances", "history", "sums", "entropy_sums")


def _pointers(*names: str) -> list[tuple[str, type[ctypes.c_void_p]]]:
    return [(name, ctypes.c_void_p) for name in names]


class _Tables(ctypes.Structure):  # these three are declared in source/tables.h
    _fields_ = [*_pointers(*_TABLES), ("depth", ctypes.c_longlong)]


class _Batch(ctypes.Structure):
    _fields_ = [
        *_pointers("slots", "positions", "last_tokens", "prompt_lens"),
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


def step(tables: Sequence[Tensor], depth: int, batch: Batch, logits: Tensor, alternatives: int) -> StepRecord:
    """Apply the program of each row's slot to the [rows, vocabulary] float32 logits, in place.

    `tables` are in the order of tables.h; `depth` is the cells of a slot, and `alternatives` the most that a request of
    the batch wants.
    """
    values = logits if logits.stride(1) == 1 else logits.contiguous()
    rows, vocabulary = values.shape
    record = torch.empty(rows, c.RECORD_COLUMNS, dtype=torch.int32)
    likeliest = torch.full((rows, max(1, alternatives)), c.NONE, dtype=torch.int32)
    probabilities, certainty = torch.zeros(rows, max(1, alternatives)), torch.zeros(rows)
    slots, positions = np.ascontiguousarray(batch.slots, np.int32), batch.positions.long().contiguous()
    last_tokens, prompt_lens = batch.last_tokens.int().contiguous(), batch.prompt_lens.int().contiguous()
    arguments = (
        _Tables(*(table.data_ptr() for table in tables), depth),
        _Batch(slots.ctypes.data, positions.data_ptr(), last_tokens.data_ptr(), prompt_lens.data_ptr(), rows),
        _Step(
            values.data_ptr(), values.stride(0), vocabulary, record.data_ptr(), likeliest.data_ptr(),
            probabilities.data_ptr(), certainty.data_ptr(), max(1, alternatives),
        ),
    )  # fmt: skip
    pointers = tuple(ctypes.addressof(one) for one in arguments)
    compiled = load().forkpoint_step
    run_parts(_bounds(slots, vocabulary), lambda begin, end: compiled(*pointers, begin, end))
    if values is not logits:
        logits.copy_(values)
    return StepRecord(record, likeliest, probabilities, certainty)


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
