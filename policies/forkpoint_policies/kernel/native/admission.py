"""A request that is put into a slot, as the numbers that are written for it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class State:
    """A request's state at the first position that will be evaluated; None for what its program does not use."""

    position: int
    cell: NDArray[np.int32]  # [CELL_INTS], for each of its cells
    chances: NDArray[np.float32] | None  # [CELL_FLOATS], for each of its cells
    history: NDArray[np.int32] | None  # [HISTORY_BINS]
    sums: NDArray[np.float64] | None  # [SUMS] nats
    entropy_sums: NDArray[np.float64] | None  # [SUMS] nats

    def cells(self) -> Iterator[tuple[str, NDArray[np.generic]]]:
        """What is written to each of its cells, by table."""
        yield "cells", self.cell
        if self.chances is not None:
            yield "chances", self.chances

    def rows(self) -> Iterator[tuple[str, NDArray[np.generic]]]:
        """What is written to its row of the other tables, by table."""
        for name, values in (("history", self.history), ("sums", self.sums), ("entropy_sums", self.entropy_sums)):
            if values is not None:
                yield name, values


@dataclass(frozen=True)
class Admission:
    """What is written for a request. `row` is that of its state.

    `resumes`: the row is as it was when the request was removed from its slot. That stays, unless it is of a later
    position.
    """

    slot: int
    numbers: NDArray[np.int32]  # [SLOT_INTS]
    row: int
    resumes: bool
    state: State
    uses_copies: bool  # of the row, for what must not be written to the logits
