"""What may enter the engine: client requests always, requests that the server starts while there is room."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class EngineCapacity:
    """Counts the requests in the engine.

    The server starts a request of its own, such as a branch, only while fewer than `max_branches` of those run and the
    engine, which runs `max_num_seqs` requests at once, would not make anyone wait for it.
    """

    def __init__(self, max_branches: int, max_num_seqs: int) -> None:
        self._max_branches = max_branches
        self._max_num_seqs = max_num_seqs
        self.num_branches = 0
        self._num_running = 0  # branches included
        self._num_background = 0  # of the branches, those of background jobs
        self._waiters: set[asyncio.Future[None]] = set()

    @property
    def max_background(self) -> int:
        """The most requests that all background jobs may run together: half, so that trees find room for branches."""
        return max(1, min(self._max_branches, self._max_num_seqs) // 2)

    def has_room(self) -> bool:
        """Whether one more branch may start."""
        return self.num_branches < self._max_branches and self._num_running < self._max_num_seqs

    def has_background_room(self) -> bool:
        """Whether one more request of a background job may start."""
        return self._num_background < self.max_background and self.has_room()

    def add_request(self) -> None:
        """Count a client's request."""
        self._num_running += 1

    def remove_request(self) -> None:
        self._num_running -= 1
        self._wake()

    def add_branch(self) -> None:
        """Count a request that the server started."""
        self.num_branches += 1
        self._num_running += 1

    def remove_branch(self) -> None:
        self.num_branches -= 1
        self._num_running -= 1
        self._wake()

    def add_background(self) -> None:
        self._num_background += 1
        self.add_branch()

    def remove_background(self) -> None:
        self._num_background -= 1
        self.remove_branch()

    async def wait_for_removal(self) -> None:
        """Wait until a request has left the engine."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.add(waiter)
        try:
            await waiter
        finally:
            self._waiters.discard(waiter)

    def _wake(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)


class BackgroundBudget:
    """What one background job, such as the verification of forks, may run in the engine.

    A job waits while others need the room, but always has one request running.
    """

    def __init__(self, capacity: EngineCapacity) -> None:
        self._capacity = capacity
        self._num_running = 0

    @property
    def max_running(self) -> int:
        """The most requests that the job can have running."""
        return self._capacity.max_background

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Room for one request; waits for it."""
        while self._num_running and not self._capacity.has_background_room():
            await self._capacity.wait_for_removal()
        self._num_running += 1
        self._capacity.add_background()
        try:
            yield
        finally:
            self._num_running -= 1
            self._capacity.remove_background()
