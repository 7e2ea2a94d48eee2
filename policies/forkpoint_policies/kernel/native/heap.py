"""Memory for programs and texts: one array, from which blocks are lent."""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike, NDArray

FIRST_INTS = 1 << 20
FIRST_FLOATS = 1 << 16


class Heap:
    """Numbers. Blocks are lent by offset. What is stored can be `watched`, for a copy of the numbers elsewhere."""

    def __init__(self, dtype: DTypeLike, capacity: int, watched: bool = False) -> None:
        self.values: NDArray[np.generic] = np.zeros(capacity, dtype)
        self._watched, self._stored = watched, list[tuple[int, int]]()
        self._free = [(0, capacity)]  # offset and length, by offset
        self._lent: dict[int, int] = {}

    def store(self, numbers: NDArray[np.generic]) -> int:
        """Copy some numbers into a block of their own; its offset."""
        size = max(1, len(numbers))
        offset = self._take(size)
        self.values[offset : offset + len(numbers)] = numbers
        self._lent[offset] = size
        if self._watched:
            self._stored.append((offset, offset + len(numbers)))
        return offset

    def take_stored(self) -> list[tuple[int, int]]:
        """Where something was stored since the last call, from and to."""
        stored, self._stored = self._stored, []
        return stored

    def release(self, offset: int) -> None:
        """Take a block back."""
        size = self._lent.pop(offset)
        blocks = sorted([*self._free, (offset, size)])
        merged = [blocks[0]]
        for begin, length in blocks[1:]:
            last, long = merged[-1]
            if last + long == begin:
                merged[-1] = (last, long + length)
            else:
                merged.append((begin, length))
        self._free = merged

    def _take(self, size: int) -> int:
        for number, (begin, length) in enumerate(self._free):
            if length >= size:
                self._free[number : number + 1] = [(begin + size, length - size)] if length > size else []
                return begin
        self._grow(size)
        return self._take(size)

    def _grow(self, size: int) -> None:
        before = len(self.values)
        longer = np.zeros(max(2 * before, before + size), self.values.dtype)
        longer[:before] = self.values
        self.values = longer
        self._free.append((before, len(longer) - before))
