"""Who runs in the engine at once: clients' requests, the branches of trees, and what the server begins for other ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class EngineCapacity:
    """Counts what runs. `together` is the most that the server may have begun by itself, `at_once` what the engine runs at once."""

    def __init__(self, together: int, at_once: int) -> None:
        self._together = together
        self._at_once = at_once
        self._begun = 0  # by the server, of all requests
        self._inside = 0  # in the engine, these among them
        self._waiting: set[asyncio.Future[None]] = set()

    @property
    def share(self) -> int:
        """The most that requests which begin many may have running, all of them together: half, so that others find room."""
        return max(1, min(self._together, self._at_once) // 2)

    def room(self) -> bool:
        """Whether one more may begin without anyone having to wait for it."""
        return self._begun < self._together and self._inside < self._at_once

    def enter(self) -> None:
        """A client's request goes into the engine."""
        self._inside += 1

    def leave(self) -> None:
        self._inside -= 1
        self._wake()

    def take(self) -> None:
        """A request that the server begins by itself goes into the engine."""
        self._begun += 1
        self._inside += 1

    def release(self) -> None:
        self._begun -= 1
        self._inside -= 1
        self._wake()

    async def change(self) -> None:
        """Wait until one has left."""
        waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.add(waiting)
        try:
            await waiting
        finally:
            self._waiting.discard(waiting)

    def _wake(self) -> None:
        for waiting in self._waiting:
            if not waiting.done():
                waiting.set_result(None)


class Shared:
    """The share of the places that all requests which begin many have together."""

    def __init__(self, places: EngineCapacity) -> None:
        self.places = places
        self._running = 0

    def turns(self) -> Turns:
        """For one such request."""
        return Turns(self)

    def free(self) -> bool:
        return self._running < self.places.share and self.places.room()

    def take(self) -> None:
        self._running += 1
        self.places.take()

    def release(self) -> None:
        self._running -= 1
        self.places.release()


class Turns:
    """The turns of one request that begins many: it waits while others need the room, but always has one running."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._running = 0

    @property
    def most(self) -> int:
        """How many it can have running."""
        return self._shared.places.share

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """A place in the engine, waited for."""
        while self._running and not self._shared.free():
            await self._shared.places.change()
        self._running += 1
        self._shared.take()
        try:
            yield
        finally:
            self._running -= 1
            self._shared.release()
