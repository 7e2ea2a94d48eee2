"""Request bodies: a size limit, reading and replaying them, and whether the client is still connected."""

from __future__ import annotations

import json
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from forkpoint_server.errors import ApiError, error_response

from .json_parts import check_parts
from .paths import FORKS, OWN, path_of

MAX_OWN_BYTES = 16 << 20
"""Of a body for one of Forkpoint's routes: a text of a million tokens, or ten thousand outcomes, is well below."""

MAX_LENGTH_DIGITS = 18
"""Of a `Content-Length`; Python reads no number of more than 4,300."""

LOST = "Upgrade: the body of a request that asks for another protocol is not read; send it without this header"

PARSED = "forkpoint.parsed_body"
"""In the scope of a request to one of our routes: its JSON object, where a middleware has parsed it."""


class BodyLimit:
    """Answers 413 to a body that is larger than `max_bytes`, or than its route reads; no more of it is then read.

    And 400 to one that was sent with the header `Upgrade`: httptools, which reads HTTP for uvicorn, drops it, or takes
    it for the next request where it arrives later. Such a connection is therefore closed after the answer.
    """

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        own = path_of(scope).startswith((*OWN, FORKS))
        limit = min(MAX_OWN_BYTES, self._max_bytes) if own else self._max_bytes
        exchange = _LimitedExchange(scope, receive, send, limit)
        try:
            await self._app(scope, exchange.receive, exchange.send)
        except ApiError as error:
            if error is not exchange.error:
                raise
            await exchange.refuse()


class _LimitedExchange:
    """The `receive` and `send` of one request whose body may be too large, or lost.

    A handler may turn the error that `receive` raises into an answer of its own. The error's replaces that answer.
    """

    def __init__(self, scope: Scope, receive: Receive, send: Send, limit: int) -> None:
        stated = _stated_length(scope)
        headers = Headers(scope=scope)
        self._may_be_lost = "upgrade" in headers and (stated > 0 or "transfer-encoding" in headers)
        self._scope = scope
        self._receive = receive
        self._send = send
        self._limit = limit
        self._left = limit - (stated if stated > limit else 0)
        self._started = False
        self._refused = False
        self.error: ApiError | None = None

    async def receive(self) -> Message:
        """The client's next message. Raises ApiError when the body is too large, when its header says so, or if it is
        lost.
        """
        if self._left >= 0 and self.error is None:
            message = await self._receive()
            if self._may_be_lost and not message.get("body") and not message.get("more_body"):
                self.error = ApiError(HTTPStatus.BAD_REQUEST, LOST, "Upgrade")
                raise self.error
            self._may_be_lost = False
            self._left -= len(message.get("body", b""))
            if self._left >= 0:
                return message
        if self.error is None:
            said = f"is larger than {self._limit >> 20} MiB, which is as much as is read here"
            self.error = ApiError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"body: {said}", "body")
        raise self.error

    async def send(self, message: Message) -> None:
        if self.error is None or self._started:
            self._started = True
            await self._answer(message)
        else:
            await self.refuse()

    async def refuse(self) -> None:
        """Answer the error, once."""
        assert self.error is not None
        if not self._started and not self._refused:
            self._refused = True
            await error_response(self.error, path_of(self._scope))(self._scope, self._receive, self._answer)

    async def _answer(self, message: Message) -> None:
        if self._may_be_lost and message["type"] == "http.response.start":
            MutableHeaders(scope=message)["connection"] = "close"
        await self._send(message)


def _stated_length(scope: Scope) -> int:
    """The bytes that the header states; 0 where it states none, and at least as many as any limit for a long number."""
    stated = Headers(scope=scope).get("content-length", "").lstrip("0")
    if not (stated.isascii() and stated.isdecimal()):
        return 0
    return int(stated[:MAX_LENGTH_DIGITS])


@dataclass(frozen=True)
class ParsedBody:
    """A whole body, parsed once. `receive` is what the client sends after it, its disconnection above all."""

    raw: bytes
    data: dict[str, Any] | None  # None for anything but a JSON object
    receive: Receive

    def replay(self) -> Receive:
        """A `receive` for the handler: the body in one message, and then what the client sends."""
        replayed = False

        async def receive() -> Message:
            nonlocal replayed
            if replayed:
                return await self.receive()
            replayed = True
            return {"type": "http.request", "body": self.raw, "more_body": False}

        return receive

    def with_data(self, scope: Scope) -> Scope:
        """A scope from which our routes take the parsed body instead of parsing it again."""
        return {**scope, PARSED: self.data}

    def replaced(self, scope: Scope, data: dict[str, Any]) -> tuple[Scope, ParsedBody]:
        """The request with another body."""
        raw = json.dumps(data).encode()
        headers = [(name, value) for name, value in scope["headers"] if name.lower() != b"content-length"]
        headers.append((b"content-length", str(len(raw)).encode()))
        return {**scope, "headers": headers}, ParsedBody(raw, data, self.receive)


async def read_body(receive: Receive) -> ParsedBody:
    """Read and parse the whole body. Raises InputError for one that would take too long to parse."""
    parts: list[bytes] = []
    while True:
        message = await receive()
        if message["type"] != "http.request":  # the client is gone; the handler is to see it

            async def disconnected(message: Message = message) -> Message:
                return message

            receive = disconnected
            break
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            break
    raw = b"".join(parts)
    check_parts(raw)
    return ParsedBody(raw, _json_object(raw), receive)


def _json_object(raw: bytes) -> dict[str, Any] | None:
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    return body if isinstance(body, dict) else None


class DisconnectTracker:
    """A `receive` and a `send` that pass everything on, and note whether the client stayed to the end."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self._status = 0
        self._ended = False
        self.disconnected = False
        """Whether the client disconnected before the end."""

    @property
    def is_answered(self) -> bool:
        """Whether the client received the whole of a successful answer."""
        return self._status == HTTPStatus.OK and self._ended and not self.disconnected

    async def receive(self) -> Message:
        """The client's next message."""
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self.note_disconnect()
        return message

    def note_disconnect(self) -> None:
        """Note that the client no longer listens; after the end of the response that means nothing."""
        self.disconnected |= not self._ended

    async def send(self, message: Message) -> None:
        """Pass on a part of the response."""
        if message["type"] == "http.response.start":
            self._status = message["status"]
        elif message["type"] == "http.response.body":
            self._ended = not message.get("more_body")
        await self._send(message)
