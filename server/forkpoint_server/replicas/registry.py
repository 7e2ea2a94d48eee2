"""The other servers of the database, in memory: read with each heartbeat, and as they were while it does not answer."""

from __future__ import annotations

import asyncio
import logging
import math
import secrets
import time
from collections.abc import Sequence
from contextlib import suppress

from sqlalchemy import Engine

from forkpoint_server import metrics
from forkpoint_server.store.executor import UnavailableError, in_thread
from forkpoint_server.store.servers import KnownServer, OwnServer, heartbeat, leave

logger = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 5.0
SIBLING_SECONDS = 0.1
"""How often one of several API servers looks for the others while they start."""
LOOK_SECONDS = 0.2
"""How often searches and lists may have the others read between two heartbeats."""
MAX_LOOK_SECONDS = 1.0
"""How long they wait for a database that does not answer: then the others are as they were."""


class Replicas:
    """`own` is what this server says about itself; `sibling_keys` are those of the servers that start with it."""

    def __init__(
        self,
        database: Engine,
        own: OwnServer,
        heartbeat_seconds: float = HEARTBEAT_SECONDS,
        sibling_keys: frozenset[str] = frozenset(),
    ) -> None:
        self.own = own
        self._sibling_keys = sibling_keys
        self.others: Sequence[KnownServer] = ()  # those that have ended among them
        self._database = database
        self._heartbeat_seconds = heartbeat_seconds
        self._task: asyncio.Task[None] | None = None
        self._look: asyncio.Task[None] | None = None  # one that has yet to begin to read
        self._looked_at = -math.inf

    async def start(self) -> None:
        """Register, and know the others from then on: its siblings among them, for which it waits."""
        await self._beat()
        while not self._sibling_keys <= {server.key for server in self.others}:
            await asyncio.sleep(SIBLING_SECONDS)
            await self._beat()
        self._task = asyncio.create_task(self._run(), name="forkpoint-heartbeat")

    async def stop(self) -> None:
        """Say that this server ends."""
        for task in (self._task, self._look):
            if task is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        with suppress(UnavailableError):
            await in_thread(leave, self._database, self.own.id)

    async def look_again(self) -> None:
        """Read the others: one that has just started is not among those of the last heartbeat.

        Concurrent calls share one read, unless it had begun before they came.
        """
        if self._look is None:
            self._look = asyncio.create_task(self._look_once(), name="forkpoint-look")
        await asyncio.wait([self._look], timeout=MAX_LOOK_SECONDS)

    async def _look_once(self) -> None:
        await asyncio.sleep(max(0.0, self._looked_at + LOOK_SECONDS - time.monotonic()))
        self._look, self._looked_at = None, time.monotonic()
        await self._beat()

    @property
    def living(self) -> list[KnownServer]:
        return [server for server in self.others if server.is_living]

    def named_in(self, request_id: str) -> KnownServer | None:
        """The server whose id is part of a request's id (`new_request_id`)."""
        return next((server for server in self.others if server.id in request_id.lower()), None)

    def new_request_id(self) -> str | None:
        """An id that says where its trace is; None where no other server would have to know.

        An id costs nothing and is exact, where a row for each request would cost the database one write each.
        """
        return f"{self.own.id}{secrets.token_hex(8)}" if self.others else None

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._heartbeat_seconds)
            await self._beat()

    async def _beat(self) -> None:
        try:
            self.others = await in_thread(heartbeat, self._database, self.own)
            metrics.SERVERS.labels(metrics.served_model()).set(1 + len(self.living))
        except (UnavailableError, OSError) as error:  # /health says so already
            logger.info("no heartbeat: %s", error)
        except Exception:  # one failure must not end the heartbeats
            logger.exception("the heartbeat failed")
