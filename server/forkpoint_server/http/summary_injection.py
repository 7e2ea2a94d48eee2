"""Puts the `forkpoint` object into vLLM's responses: a field of a JSON body, or into the end of a stream."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.types import Message, Send

Summarise = Callable[[str | None], Awaitable[dict[str, Any]]]
"""From the response's id to its `forkpoint` object."""

HeadersToAdd = Callable[[], dict[str, str] | None]
"""The headers to add, or None to leave the response as it is."""

NumGenerated = Callable[[], int | None]
"""How many tokens were generated, or None where vLLM's own count is right."""

DONE = b"data: [DONE]"
CHUNK = b"data: {"
LAST_EVENTS = ("response.completed", "response.incomplete", "response.failed", "message_stop")
"""The events that end a stream of responses or messages; chat and completions end with [DONE]."""


class SummaryInjection:
    """An ASGI `send` that adds the summary to a successful JSON or event-stream response, and headers to any.

    `status` is the response's, once it has started.
    """

    def __init__(self, send: Send, headers: HeadersToAdd, summarise: Summarise, num_generated: NumGenerated) -> None:
        self._send = send
        self._headers = headers
        self._summarise = summarise
        self._num_generated = num_generated
        self._start: Message | None = None  # held back while a JSON body is collected: its length will change
        self._is_stream = False
        self._body = b""
        self._last_chunk = b""
        self._message_id: str | None = None
        self.status: int | None = None

    @property
    def streamed_id(self) -> str | None:
        """The response's id, as far as a stream has sent it."""
        if not self._last_chunk:
            return self._message_id
        sent = json.loads(_fields(self._last_chunk)[1]).get("id")
        return sent if isinstance(sent, str) else None

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            await self._start_response(message)
        elif message["type"] == "http.response.body" and self._start is not None:
            await self._collect(message)
        elif message["type"] == "http.response.body" and self._is_stream:
            await self._stream(message)
        else:
            await self._send(message)

    async def _start_response(self, message: Message) -> None:
        headers = MutableHeaders(raw=message["headers"])
        added, self.status = self._headers(), message["status"]
        if added is None:
            await self._send(message)
            return
        for name, value in added.items():
            headers[name] = value
        kind = headers.get("content-type", "").partition(";")[0]
        if message["status"] == 200 and kind == "application/json":
            self._start = message
            return
        self._is_stream = message["status"] == 200 and kind == "text/event-stream"
        await self._send(message)

    async def _collect(self, message: Message) -> None:
        self._body += message.get("body", b"")
        if message.get("more_body"):
            return
        start, self._start = self._start, None
        assert start is not None
        body = json.loads(self._body)
        if isinstance(body, dict):
            body["forkpoint"] = await self._summarise(body.get("id"))
            self._count_once(body.get("usage"))
            self._body = _json(body)
        MutableHeaders(raw=start["headers"])["content-length"] = str(len(self._body))
        await self._send(start)
        await self._send({"type": "http.response.body", "body": self._body})

    async def _stream(self, message: Message) -> None:
        """Pass whole events on; an event that is not complete yet waits for its rest."""
        body = message.get("body", b"")
        if not self._body and body.startswith(CHUNK) and body.find(b"\n\n") == len(body) - 2:  # nearly all of them
            self._last_chunk = body
            await self._send({**message, "body": self._counted(body)})
            return
        self._body += body
        passed = b""
        while (end := self._body.find(b"\n\n")) >= 0:
            event, self._body = self._body[: end + 2], self._body[end + 2 :]
            passed += await self._event(event)
        more = message.get("more_body", False)
        if not more:
            passed, self._body = passed + self._body, b""
        if passed or not more:
            await self._send({"type": "http.response.body", "body": passed, "more_body": more})

    async def _event(self, event: bytes) -> bytes:
        if event.startswith(DONE):
            return await self._last_chunk_with_summary() + event
        if event.startswith(CHUNK):
            self._last_chunk = event
            return self._counted(event)
        name, payload = _fields(event)
        if name in LAST_EVENTS:
            data = json.loads(payload)
            holder = data["response"] if isinstance(data.get("response"), dict) else data
            holder["forkpoint"] = await self._summarise(holder.get("id") or self._message_id)
            self._count_once(holder.get("usage"))
            return b"event: " + name.encode() + b"\ndata: " + _json(data) + b"\n\n"
        if name == "message_delta" and self._num_generated() is not None:
            data = json.loads(payload)
            self._count_once(data.get("usage"))
            return b"event: " + name.encode() + b"\ndata: " + _json(data) + b"\n\n"
        if name == "message_start":
            self._message_id = json.loads(payload).get("message", {}).get("id")
        return event

    def _counted(self, event: bytes) -> bytes:
        if self._num_generated() is None or b'"usage":{' not in event:
            return event
        data = json.loads(_fields(event)[1])
        self._count_once(data.get("usage"))
        return b"data: " + _json(data) + b"\n\n"

    def _count_once(self, usage: Any) -> None:
        """Where answers share tokens, count each shared token once in the usage."""
        num_generated = self._num_generated()
        if num_generated is None or not isinstance(usage, dict):
            return
        for name in ("completion_tokens", "output_tokens"):
            if name in usage:
                if "total_tokens" in usage:
                    usage["total_tokens"] += num_generated - usage[name]
                usage[name] = num_generated

    async def _last_chunk_with_summary(self) -> bytes:
        try:
            last = json.loads(_fields(self._last_chunk)[1])
        except ValueError:
            return b""
        if "choices" not in last:  # an error, or the end of an API that marks it in another way
            return b""
        shared = {key: last[key] for key in ("id", "object", "created", "model") if key in last}
        return (
            b"data: " + _json({**shared, "choices": [], "forkpoint": await self._summarise(last.get("id"))}) + b"\n\n"
        )


def _fields(event: bytes) -> tuple[str, bytes]:
    """The `event` and `data` fields of a server-sent event."""
    name, data = "", b""
    for line in event.splitlines():
        if line.startswith(b"event:"):
            name = line[6:].strip().decode()
        elif line.startswith(b"data:"):
            data += line[5:].strip()
    return name, data


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
