"""How large the tables of all slots are."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from forkpoint_policies.kernel.state_handover import HISTORY_BINS

from . import columns as c

Shapes = Mapping[str, tuple[tuple[int, ...], type[np.generic]]]


def row_shapes(slots: int, states: int, depth: int) -> Shapes:
    """The shape and type of each table, by its name in abi.TABLES. A state has `depth` cells."""
    return {
        "slots": ((slots, c.SLOT_INTS), np.int32),
        "cells": ((states * depth, c.CELL_INTS), np.int32),
        "chances": ((states * depth, c.CELL_FLOATS), np.float32),
        "history": ((states, HISTORY_BINS), np.int32),
        "sums": ((states, c.SUMS), np.float64),
        "entropy_sums": ((states, c.SUMS), np.float64),
    }
