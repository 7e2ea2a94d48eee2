"""Request bodies: a size limit, reading and replaying, and whether the client is still there."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Any

from starlette.datastructures import Headers
from starlette.types import Message, Receive, Scope, Send

from forkpoint_server.errors import ApiError


async def read_body(receive: Receive) -> tuple[bytes, Receive]:
    """The whole body, and the `receive` to listen on for what comes after it."""
    parts: list[bytes] = []
    while True:
        message = await receive()
        if message["type"] != "http.request":  # the client is gone; let the handler hear it

            async def again(message: Message = message) -> Message:
                return message

            return b"".join(parts), again
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(parts), receive


def replay(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives the body once, and then what the client sends, its disconnection above all."""
    given = False

    async def replayed() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replayed


def json_object(raw: bytes) -> dict[str, Any] | None:
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    return body if isinstance(body, dict) else None


def with_content_length(scope: Scope, length: int) -> Scope:
    headers = [(name, value) for name, value in scope["headers"] if name.lower() != b"content-length"]
    return {**scope, "headers": [*headers, (b"content-length", str(length).encode())]}


MAX_OWN_BYTES = 16 << 20
"""Of a body for one of our own routes: a text of a million tokens, or ten thousand outcomes, is well below."""


def limited(scope: Scope, receive: Receive, most_bytes: int) -> Receive:
    """A `receive` that raises Refused (413) for a body that is larger, or that says it will be."""
    stated = Headers(scope=scope).get("content-length", "0")
    left = most_bytes - (int(stated) if stated.isdecimal() and int(stated) > most_bytes else 0)

    async def counted() -> Message:
        nonlocal left
        if left >= 0:
            message = await receive()
            left -= len(message.get("body", b""))
            if left >= 0:
                return message
        said = f"is larger than {most_bytes >> 20} MiB, which is as much as is read here"
        raise ApiError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"body: {said}", "body")

    return counted


class Exchange:
    """An ASGI `receive` and `send` that pass everything on."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self._status = 0
        self._ended = False
        self.left = False
        """Whether the client was gone before the end."""

    @property
    def answered(self) -> bool:
        """Whether the client was there for the whole of an answer that is no error."""
        return self._status == HTTPStatus.OK and self._ended and not self.left

    async def receive(self) -> Message:
        """The next message of the client."""
        message = await self._receive()
        if message["type"] == "http.disconnect" and not self._ended:
            self.left = True
        return message

    def cut(self) -> None:
        """Note that nobody listens any more."""
        self.left |= not self._ended

    async def send(self, message: Message) -> None:
        """Pass on a part of the response."""
        if message["type"] == "http.response.start":
            self._status = message["status"]
        elif message["type"] == "http.response.body":
            self._ended = not message.get("more_body")
        await self._send(message)
