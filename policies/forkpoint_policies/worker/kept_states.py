"""The hidden states that a request keeps for the server to fetch: at the positions where a rule of its policy fires."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save
from torch import Tensor

from forkpoint_policies.kernel.native.columns import R_FLAGS, R_POSITION
from forkpoint_policies.kernel.record_flags import RULES_SHIFT

MAX_BYTES = 256 << 20
"""Of all states that are kept: beyond it, those of the request that began to keep them the longest ago are dropped."""
LAST_LAYER, POSITIONS, RULES = "last", "positions", "rules"
"""The tensors of a request's file, beside those of hooked layers."""


def layer_name(layer: int) -> str:
    """Of the tensor with the states of a hooked layer."""
    return f"layer.{layer}"


class RequestStates:
    """Of one request, at most `limit` positions, the first ones: at each the states of these `names`, and which rules
    fired."""

    def __init__(self, limit: int, names: Sequence[str]) -> None:
        self._limit = limit
        self.names = tuple(names)
        self._at: dict[int, tuple[int, dict[str, Tensor]]] = {}
        self.num_bytes = 0

    def put(self, position: int, rules: int, states: dict[str, Tensor]) -> None:
        """Keep the states at a position, by the names of their tensors, or forget it where no rule fired: a position
        that follows a rejected draft or a part of a prompt is evaluated again."""
        self._drop(position)
        if not rules:
            return
        if len(self._at) >= self._limit:
            last = max(self._at)
            if position > last:
                return
            self._drop(last)
        self._at[position] = rules, {name: one.detach().to("cpu", torch.float32) for name, one in states.items()}
        self.num_bytes += _bytes(self._at[position][1])

    def file(self) -> bytes:
        """As safetensors, ordered by position: `positions` and `rules` (a bit each) [n] int64, and of each layer [n, D]
        float32. Without states, no layer is there."""
        positions = sorted(self._at)
        names = self._at[positions[0]][1] if positions else {}
        found = {name: torch.stack([self._at[one][1][name] for one in positions]) for name in names}
        found[POSITIONS] = torch.tensor(positions, dtype=torch.int64)
        found[RULES] = torch.tensor([self._at[one][0] for one in positions], dtype=torch.int64)
        return save(found)

    def _drop(self, position: int) -> None:
        before = self._at.pop(position, None)
        if before is not None:
            self.num_bytes -= _bytes(before[1])


class KeptStates:
    """By the requests' handles, until they are taken."""

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._kept: OrderedDict[int, RequestStates] = OrderedDict()

    def begin(self, handle: int, limit: int, names: Sequence[str]) -> None:
        """Keep the states of these names of a request from now on; of one that was preempted, go on."""
        self._kept.setdefault(handle, RequestStates(limit, names))

    def keep(
        self, handles: dict[int, int], slots: NDArray[np.int32], record: Tensor, states: Mapping[str, Tensor]
    ) -> None:
        """Keep what the rows of a step say, of requests that do: their handles by slot, the [n] slots, the rows of the
        record, and the [n, D] states by name. Nothing is kept of a request of whose states one is not known."""
        rows = [row for row, slot in enumerate(slots.tolist()) if slot in handles]
        numbers = record[rows][:, [R_POSITION, R_FLAGS]].tolist()  # on a GPU this waits for the device
        for row, (position, flags) in zip(rows, numbers, strict=True):
            kept = self._kept.get(handles[int(slots[row])])
            if kept is not None and position >= 0 and states.keys() >= {*kept.names}:
                kept.put(position, flags >> RULES_SHIFT, {name: states[name][row] for name in kept.names})
        while len(self._kept) > 1 and sum(one.num_bytes for one in self._kept.values()) > self._max_bytes:
            self._kept.popitem(last=False)

    def take(self, handle: int) -> bytes:
        """What a request has kept, which is forgotten here; empty if that was dropped."""
        kept = self._kept.pop(handle, None)
        return b"" if kept is None else kept.file()


def _bytes(states: dict[str, Tensor]) -> int:
    return sum(one.nbytes for one in states.values())


STATES = KeptStates()
"""Of this process."""
