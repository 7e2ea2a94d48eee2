"""A network between workers and server that can be cut: a relay of TCP connections."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

CHUNK_BYTES = 1 << 16


class Relay:
    """Passes bytes on to a port of the same address, in both directions, while it is not cut."""

    def __init__(self, host: str, target_port: int) -> None:
        self._host, self._target_port = host, target_port
        self._server: asyncio.Server | None = None
        self._passing = asyncio.Event()
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0
        """0 before it has started."""

    async def start(self) -> None:
        """Listen, at the same port as before if it was cut."""
        self._passing.set()
        self._server = await asyncio.start_server(self._accept, self._host, self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    def hold(self) -> None:
        """Pass nothing on. What is sent now fills the buffers on the way, and is lost when the network is cut."""
        self._passing.clear()

    async def cut(self) -> None:
        """Drop all connections, with what is on its way, and accept none."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            far_reader, far_writer = await asyncio.open_connection(self._host, self._target_port)
        except OSError:
            writer.transport.abort()
            return
        self._writers.add(far_writer)
        for source, target in ((reader, far_writer), (far_reader, writer)):
            task = asyncio.create_task(self._pass_on(source, target))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pass_on(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await source.read(CHUNK_BYTES):
                await self._passing.wait()
                target.write(data)
                await target.drain()
            target.close()


@asynccontextmanager
async def relaying(host: str, target_port: int) -> AsyncIterator[Relay]:
    """A relay to this port, which is cut when the block ends."""
    relay = Relay(host, target_port)
    await relay.start()
    try:
        yield relay
    finally:
        await relay.cut()
