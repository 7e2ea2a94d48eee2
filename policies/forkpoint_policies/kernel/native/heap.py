"""Memory for programs and texts: one array on the device, from which blocks are lent."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray


class Heap:
    """Numbers on a device. Blocks are lent by offset; what is written to one arrives in the order of the stream."""

    def __init__(self, dtype: torch.dtype, device: torch.device, capacity: int) -> None:
        self.values = torch.zeros(capacity, dtype=dtype, device=device)
        self._free = [(0, capacity)]  # offset and length, by offset
        self._lent: dict[int, int] = {}

    def store(self, numbers: NDArray[np.generic]) -> int:
        """Copy some numbers into a block of their own, without waiting for the device; its offset."""
        size = max(1, len(numbers))
        offset = self._take(size)
        source = torch.from_numpy(np.ascontiguousarray(numbers))
        if self.values.is_cuda:
            source = source.pin_memory()
        self.values[offset : offset + len(numbers)].copy_(source, non_blocking=True)
        self._lent[offset] = size
        return offset

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
        grown = torch.zeros(max(2 * before, before + size), dtype=self.values.dtype, device=self.values.device)
        grown[:before].copy_(self.values)
        self.values = grown
        self._free.append((before, len(grown) - before))
