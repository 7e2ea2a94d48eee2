"""The structures that the compiled step takes, as source/tables.h and source/block.h declare them."""

from __future__ import annotations

import ctypes

TABLES = (
    "slots", "seeds", "temperatures", "cells", "chances", "history", "sums", "entropy_sums",
)  # fmt: skip
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


class Writes(ctypes.Structure):
    _fields_ = _pointers("groups", "pieces", "numbers")
