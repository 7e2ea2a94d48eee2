"""The rows of the hooks' tables: which vector, or which placebo of one, lies in which."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Mapping, Set

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

logger = logging.getLogger(__name__)

NOTHING = 0
"""The row that is zero."""
Vectors = Mapping[int, NDArray[np.float32]]
"""One vector [D] for each layer to whose output it is added."""


class VectorRows:
    """Rows of the tables, one for each vector in use: loaded when a request first needs it.

    `find` returns a vector by its digest, or None.
    """

    def __init__(self, tables: Mapping[int, Tensor], find: Callable[[str], Vectors | None]) -> None:
        self._tables, self._find = tables, find
        self._row_of: OrderedDict[tuple[str, bool], int] = OrderedDict()  # least recently requested first

    def row(self, digest: str, is_placebo: bool, in_use: Set[int]) -> int:
        """The row of a vector, or of its placebo; NOTHING where it cannot be had. Rows `in_use` are not overwritten."""
        key = digest, is_placebo
        if key in self._row_of:
            self._row_of.move_to_end(key)
            return self._row_of[key]
        vectors = self._find(digest)
        row = self._free(in_use)
        if vectors is None or row is None:
            logger.error(
                "forkpoint: a request is not steered: %s",
                "its vector is not in this worker" if vectors is None else "too many vectors are in use",
            )
            return NOTHING
        for layer, table in self._tables.items():
            vector = vectors.get(layer)
            if vector is None:
                table[row].zero_()
                continue
            values = random_direction(vector, digest, layer) if is_placebo else vector
            table[row] = torch.from_numpy(np.array(values, np.float32)).to(table)
        self._row_of[key] = row
        return row

    def _free(self, in_use: Set[int]) -> int | None:
        taken = {*self._row_of.values()}
        count = min((len(table) for table in self._tables.values()), default=0)
        for row in range(1, count):
            if row not in taken:
                return row
        for key, row in self._row_of.items():
            if row not in in_use:
                del self._row_of[key]
                return row
        return None


def random_direction(vector: NDArray[np.float32], digest: str, layer: int) -> NDArray[np.float32]:
    """A direction at random of the same norm, the same for every request: seeded by the vector's digest and layer."""
    random = np.random.default_rng([int(digest[:16], 16), layer])
    direction = random.standard_normal(len(vector))
    found: NDArray[np.float32] = (direction * (np.linalg.norm(vector) / np.linalg.norm(direction))).astype(np.float32)
    return found
