"""Notices an engine that takes requests and answers none: vLLM's own check sees only whether its process lives."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

logger = logging.getLogger(__name__)

SILENT_SECONDS = 5.0
"""Without any output for this long while requests run, the engine is pinged. A long prompt is as silent."""
STALLED_SECONDS = 55.0
"""An engine that leaves a ping unanswered for this long has stalled: it answers pings between steps."""


class EngineMonitor:
    """Pings the engine while clients' requests run and none returns anything.

    `ping` takes the way into the engine that requests take, and runs nothing. It may raise: an engine that has died is
    reported by vLLM.
    """

    def __init__(
        self, ping: Callable[[], Awaitable[object]], silent: float = SILENT_SECONDS, stalled: float = STALLED_SECONDS
    ) -> None:
        self._ping = ping
        self._silent = silent
        self._stalled = stalled
        self._num_running = 0
        self._last_output = 0.0
        self._pinged_at: float | None = None
        self._watcher: asyncio.Task[None] | None = None

    def add_request(self) -> None:
        """Count a client's request, and watch the engine until none is left."""
        self._num_running += 1
        if self._watcher is None or self._watcher.done():
            self._watcher = asyncio.create_task(self._watch(), name="forkpoint-engine-monitor")

    def remove_request(self) -> None:
        self._num_running -= 1

    def note_output(self) -> None:
        """Some request has returned something."""
        self._last_output = time.monotonic()

    def failure(self) -> str | None:
        """What is wrong with the engine; None if it answers."""
        if self._pinged_at is None or time.monotonic() - self._pinged_at < self._stalled:
            return None
        return "the engine takes requests and answers none: restart the server"

    async def _watch(self) -> None:
        while self._num_running:
            await asyncio.sleep(self._silent)
            if self._num_running and time.monotonic() - self._last_output >= self._silent:
                await self._await_ping()

    async def _await_ping(self) -> None:
        self._pinged_at = time.monotonic()
        try:
            await self._ping()
        except Exception as error:  # noqa: BLE001  # of a dead engine, which vLLM's own check reports
            logger.warning("the engine answers a ping with %s: %s", type(error).__name__, error)
        finally:
            self._pinged_at = None
