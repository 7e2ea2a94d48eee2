"""The last hidden states of the requests whose policies depend on their effective rank, and their ranks.

States and ranks have their place by position modulo the window and the most rows of a step: a position that is
evaluated again, as after a rejected draft, takes its place again, and pushes nothing out that is still needed.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from forkpoint_policies.compile.program import RankSpan

from .effective_rank import UNKNOWN, RankState, effective_rank

FIRST_CAPACITY = 8


@dataclass(eq=False)
class _Window:
    """Of one request: its row of the ring, and where its states lie.

    `evaluated` is the position after its committed tokens: rows before it belong to a prompt that is computed in
    pieces. There are states of all positions from `first` to `last`.
    """

    handle: int
    span: RankSpan
    row: int
    evaluated: int
    first: int
    last: int
    ranks: list[RankState]  # by place


class _Ring:
    """States of `places` positions of each request whose window has the same length. Rows are used again."""

    def __init__(self, places: int) -> None:
        self.places = places
        self._states: Tensor | None = None  # [rows, places, D]
        self._free: list[int] = []
        self._num_rows = 0

    def take(self) -> int:
        """A row that no request has."""
        if not self._free:
            more = max(FIRST_CAPACITY, self._num_rows)
            self._free = list(range(self._num_rows + more - 1, self._num_rows - 1, -1))
            self._num_rows += more
        return self._free.pop()

    def release(self, row: int) -> None:
        self._free.append(row)

    def store(self, rows: Sequence[int], places: Sequence[int], states: Tensor) -> None:
        """Write [n, D] states to their places."""
        if self._states is None or len(self._states) < self._num_rows:
            larger = states.new_zeros(self._num_rows, self.places, states.shape[1])
            if self._states is not None:
                larger[: len(self._states)] = self._states
            self._states = larger
        at_row, at_place = torch.tensor((rows, places)).to(states.device)
        self._states[at_row, at_place] = states

    def window(self, row: int, last: int, length: int) -> Tensor:
        """The states [length, D] up to a position, in its order."""
        assert self._states is not None
        places = torch.arange(last - length + 1, last + 1) % self.places
        return self._states[row].index_select(0, places.to(self._states.device))


class RankWindows:
    """Of the requests of a worker, by slot. `depth` is the most rows that one request has in a step, and `count` the
    most requests: the windows of so many are stored, those that were preempted among them."""

    def __init__(self, count: int, depth: int = 1) -> None:
        self._count, self._depth = count, depth
        self._rings: dict[int, _Ring] = {}  # by the length of the window
        self._windows: dict[int, _Window] = {}
        self._removed: OrderedDict[int, _Window] = OrderedDict()  # by handle

    def add(self, slot: int, handle: int, span: RankSpan, position: int) -> None:
        """Start a request at a position: with its own window if it was preempted there, else with an empty one."""
        window = self._removed.pop(handle, None)
        if window is not None and window.evaluated <= position:
            window.evaluated = position
            self._windows[slot] = window
            return
        while self._removed and len(self._windows) + len(self._removed) >= self._count:
            self._drop(self._removed.popitem(last=False)[1])
        ring = self._rings.setdefault(span.window, _Ring(span.window + self._depth))
        self._windows[slot] = _Window(
            handle, span, ring.take(), position, position, position - 1, [UNKNOWN] * ring.places
        )

    def remove(self, slot: int) -> None:
        """Take a request out of its slot. Its window is stored as long as there is room: it may be resumed."""
        window = self._windows.pop(slot, None)
        if window is not None:
            self._removed[window.handle] = window

    def measure(self, slots: Sequence[int], positions: Sequence[int], states: Tensor) -> list[RankState]:
        """The rank at each row of a step, of its request's slot and position; `states` are [rows, D].

        A request's rows follow each other. UNKNOWN where its policy does not depend on the rank, before its window is
        full, and where nothing will be sampled.
        """
        chosen = self._place(slots, positions)
        for length in {self._windows[slots[row]].span.window for row in chosen}:
            own = [row for row in chosen if self._windows[slots[row]].span.window == length]
            ring = self._rings[length]
            picked = states if own == list(range(len(states))) else states[torch.tensor(own).to(states.device)]
            ring.store(
                [self._windows[slots[row]].row for row in own], [positions[row] % ring.places for row in own], picked
            )
        found = [UNKNOWN] * len(slots)
        for row in chosen:
            found[row] = self._rank(self._windows[slots[row]], positions[row])
        return found

    def _place(self, slots: Sequence[int], positions: Sequence[int]) -> list[int]:
        """The rows whose states are stored; which positions each request's window then has."""
        chosen, before, sampled = list[int](), -1, False
        for row, (slot, position) in enumerate(zip(slots, positions, strict=True)):
            window = self._windows.get(slot)
            if window is not None:
                if slot != before:
                    sampled = position >= window.evaluated
                    window.evaluated = max(window.evaluated, position)
                if sampled:
                    window.first = max(window.first, window.last + 1 - window.span.window - self._depth)
                    if not window.first <= position <= window.last + 1:  # a gap, or all that lay before is lost
                        window.first = position
                    window.last = position
                    chosen.append(row)
            before = slot
        return chosen

    def _rank(self, window: _Window, position: int) -> RankState:
        ring, span = self._rings[window.span.window], window.span
        before = window.ranks[(position - 1) % ring.places] if position > window.first else UNKNOWN
        found = before
        if position - window.first + 1 >= span.window and (position + 1) % span.stride == 0:
            found = before.after(effective_rank(ring.window(window.row, position, span.window)))
        window.ranks[position % ring.places] = found
        return found

    def _drop(self, window: _Window) -> None:
        self._rings[window.span.window].release(window.row)
