"""Server-sent events: taken apart into whole events, and a sign of life where a stream is silent for long."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from starlette.datastructures import MutableHeaders
from starlette.types import Message, Send

HEADERS = {"X-Accel-Buffering": "no", "Cache-Control": "no-cache"}
"""Of an event stream: nginx and its like would otherwise collect events before they pass them on."""

FIRST_SILENCE_SECONDS = 0.5
LONGEST_SILENCE_SECONDS = 10.0
SILENCE_GROWTH = 1.5
"""Silences grow: a short vote shows that it goes on, and a long one costs few bytes."""

COMMENT = b": keep-alive\n\n"
PING = b'event: ping\ndata: {"type":"ping"}\n\n'
"""Anthropic's own sign of life, which comes after `message_start`."""


class EventSplitter:
    """Whole events out of the parts in which a body is sent."""

    def __init__(self) -> None:
        self.rest = b""

    def split(self, part: bytes) -> list[bytes]:
        """The events that are complete with this part; the rest waits for the next one."""
        *events, self.rest = (self.rest + part).split(b"\n\n")
        return [event + b"\n\n" for event in events]


class KeepAlive:
    """An ASGI `send` that adds signs of life to an event stream of whole events, while `needed`."""

    def __init__(self, send: Send, needed: Callable[[], bool]) -> None:
        self._send = send
        self._needed = needed
        self._sending = asyncio.Lock()
        self._sign = COMMENT
        self._last_sent = 0.0
        self._task: asyncio.Task[None] | None = None

    async def __call__(self, message: Message) -> None:
        body = message.get("body", b"")
        if message["type"] == "http.response.start" and is_event_stream(message) and self._needed():
            self._last_sent = time.monotonic()
            self._task = asyncio.create_task(self._watch_silence(), name="forkpoint-keep-alive")
        elif message["type"] == "http.response.body" and not message.get("more_body"):
            self.stop()
        if body.startswith(b"event: message_start"):
            self._sign = PING
        async with self._sending:
            await self._send(message)
            self._last_sent = time.monotonic()

    def stop(self) -> None:
        """Add no more. Also called where the stream ends without its last message."""
        if self._task is not None:
            self._task.cancel()
            self._task = None

    async def _watch_silence(self) -> None:
        allowed = FIRST_SILENCE_SECONDS
        while True:
            left = self._last_sent + allowed - time.monotonic()
            if left > 0:
                await asyncio.sleep(left)
                continue
            async with self._sending:
                await self._send({"type": "http.response.body", "body": self._sign, "more_body": True})
                self._last_sent = time.monotonic()
            allowed = min(allowed * SILENCE_GROWTH, LONGEST_SILENCE_SECONDS)


def is_event_stream(start: Message) -> bool:
    """Whether a response's start is that of a successful event stream."""
    return _kind(start) == "text/event-stream"


def is_json(start: Message) -> bool:
    """Whether a response's start is that of a successful JSON response."""
    return _kind(start) == "application/json"


def _kind(start: Message) -> str:
    if start["status"] != 200:
        return ""
    return MutableHeaders(raw=start["headers"]).get("content-type", "").partition(";")[0]


def event_fields(event: bytes) -> tuple[str, bytes]:
    """The `event` and `data` fields of a server-sent event."""
    name, data = "", b""
    for line in event.splitlines():
        if line.startswith(b"event:"):
            name = line[6:].strip().decode()
        elif line.startswith(b"data:"):
            data += line[5:].strip()
    return name, data


def make_event(name: str, data: bytes) -> bytes:
    """A server-sent event; an empty name is left out."""
    return (f"event: {name}\n".encode() if name else b"") + b"data: " + data + b"\n\n"
