"""The structures that the compiled step takes, as source/tables.h and source/block.h declare them."""

from __future__ import annotations

import ctypes

from torch import Tensor

from forkpoint_policies.kernel.step_types import StepRecord

TABLES = ("slots", "cells", "chances", "history", "sums", "entropy_sums")
"""The tables of all slots, in the order of the structure; tables.h says what is in them."""


def _pointers(*names: str) -> list[tuple[str, type[ctypes.c_void_p]]]:
    return [(name, ctypes.c_void_p) for name in names]


class Tables(ctypes.Structure):
    _fields_ = [*_pointers("heap", "floats", *TABLES), ("depth", ctypes.c_longlong)]


class Batch(ctypes.Structure):
    _fields_ = [
        *_pointers("slots", "positions", "last_tokens", "prompt_lens", "hidden"),
        ("rows", ctypes.c_longlong),
    ]


class Step(ctypes.Structure):
    _fields_ = [
        *_pointers("logits"),
        ("stride", ctypes.c_longlong),
        ("vocabulary", ctypes.c_longlong),
        *_pointers("record", "likeliest", "probabilities", "certainty"),
        ("alternatives", ctypes.c_longlong),
        *_pointers("moments", "copies", "lent"),
        ("num_copies", ctypes.c_longlong),
    ]

    @classmethod
    def of(cls, logits: Tensor, record: StepRecord, *of_blocks: int) -> Step:
        """A step of [rows, vocabulary] logits; `of_blocks` are the fields that only thread blocks have."""
        begin = record.whole.data_ptr()
        parts = (begin + 4 * offset for offset in record.offsets)
        return cls(logits.data_ptr(), logits.stride(0), logits.shape[1], *parts, record.width, *of_blocks)


class Writes(ctypes.Structure):
    _fields_ = _pointers("groups", "pieces", "numbers")
