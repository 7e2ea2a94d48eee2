"""Puts the `forkpoint` object into vLLM's responses: a field of a JSON body, or of the last event of a stream.

A stream has the events of stock vLLM, in their order. The object is in the chunk that ends the last choice, or in the
one with the usage, so that a client that reads `choices[0]` of every chunk, or stops at the last one, reads on. A chunk
that could be the last is held back until the next event; only a client that requested it gets a chunk more.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.types import Message, Send

from .event_stream import EventSplitter, event_fields, is_event_stream, is_json, make_event
from .json_fields import field_value, object_fields, object_of, to_json

DONE = b"data: [DONE]"
CHUNK = b"data: {"
LAST_EVENTS = ("response.completed", "response.incomplete", "response.failed", "message_stop")
"""The events that end a stream of responses or messages; chat and completions end with [DONE]."""
SHARED_FIELDS = frozenset({"id", "request_id", "object", "created", "model"})
"""Of all chunks of a stream."""


@dataclass(frozen=True)
class Additions:
    """What is added to a response. The engine decides some of it, so each is called when it is needed.

    `headers`: of the response, and of one that is a stream.
    `summarise`: from the response's id to the JSON of its `forkpoint` object, None where it gets none.
    `num_generated`: how many tokens were generated, None where vLLM's own count is right.
    `own_chunk`: whether a stream of chunks gets one more for the object.
    """

    headers: Callable[[bool], Mapping[str, str]]
    summarise: Callable[[str | None], Awaitable[bytes | None]]
    num_generated: Callable[[], int | None]
    own_chunk: bool = False


class SummaryInjection:
    """An ASGI `send` that adds the summary to a successful JSON or event-stream response, and headers to any.

    `status` is the response's, once it has started.
    """

    def __init__(self, send: Send, additions: Additions) -> None:
        self._send = send
        self._additions = additions
        self._start: Message | None = None  # held back while a JSON body is collected: its length will change
        self._body = b""
        self._events: EventSplitter | None = None
        self._last_chunk = b""
        self._held = b""  # a chunk that may be the last
        self._id: str | None = None  # of a response or message that is streamed
        self.status: int | None = None

    @property
    def streamed_id(self) -> str | None:
        """The response's id, as far as a stream has sent it."""
        if not self._last_chunk:
            return self._id
        sent = response_id(_event_object(self._last_chunk))
        return sent if isinstance(sent, str) else None

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            await self._start_response(message)
        elif message["type"] == "http.response.body" and self._start is not None:
            await self._collect(message)
        elif message["type"] == "http.response.body" and self._events is not None:
            await self._stream(message, self._events)
        else:
            await self._send(message)

    async def _start_response(self, message: Message) -> None:
        self.status = message["status"]
        streams = is_event_stream(message)
        headers = MutableHeaders(raw=message["headers"])
        for name, value in self._additions.headers(streams).items():
            headers[name] = value
        if is_json(message):
            self._start = message
            return
        self._events = EventSplitter() if streams else None
        await self._send(message)

    async def _collect(self, message: Message) -> None:
        self._body += message.get("body", b"")
        if message.get("more_body"):
            return
        start, self._start = self._start, None
        assert start is not None
        fields = object_fields(self._body)
        if fields is not None:
            summary = await self._additions.summarise(response_id(fields))
            if self._count_once(fields) or summary is not None:
                self._body = object_of(_with_summary(fields, summary))
                MutableHeaders(raw=start["headers"])["content-length"] = str(len(self._body))
        await self._send(start)
        await self._send({"type": "http.response.body", "body": self._body})

    async def _stream(self, message: Message, events: EventSplitter) -> None:
        """Pass whole events on; an event that is not complete yet waits for its rest."""
        body, more = message.get("body", b""), message.get("more_body", False)
        if not events.rest and not self._held and _is_one_chunk(body) and not _may_be_last(body):  # nearly all of them
            self._last_chunk = body
            await self._send({**message, "body": self._counted(body)})
            return
        passed = b"".join([await self._event(event) for event in events.split(body)])
        if not more:
            passed, self._held = passed + self._held + events.rest, b""
        if passed or not more:
            await self._send({"type": "http.response.body", "body": passed, "more_body": more})

    async def _event(self, event: bytes) -> bytes:
        """What to send at this event."""
        if event.startswith(DONE):
            return await self._end_chunks() + event
        if event.startswith(CHUNK):
            passed, self._held = self._held, b""
            self._last_chunk, event = event, self._counted(event)
            if _may_be_last(event):
                self._held = event
                return passed
            return passed + event
        name, payload = event_fields(event)
        if name in ("message_start", "response.created"):
            fields = object_fields(payload) or {}
            holder = object_fields(fields.get("message") or fields.get("response") or b"{}") or {}
            self._id = field_value(holder, "id")
        if name == "message_delta" and self._additions.num_generated() is not None:
            fields = object_fields(payload) or {}
            self._count_once(fields)
            return make_event(name, object_of(fields))
        if name in LAST_EVENTS:
            return await self._last_event(event, name, object_fields(payload) or {})
        return event

    async def _last_event(self, event: bytes, name: str, fields: dict[str, bytes]) -> bytes:
        response = object_fields(fields.get("response", b""))
        holder = fields if response is None else response
        summary = await self._additions.summarise(field_value(holder, "id") or self._id)
        if not self._count_once(holder) and summary is None:
            return event
        holder = _with_summary(holder, summary)
        return make_event(name, object_of(holder if response is None else {**fields, "response": object_of(holder)}))

    async def _end_chunks(self) -> bytes:
        """What is sent before [DONE]: the chunk that was held back, with the summary."""
        held, self._held = self._held, b""
        last = _event_object(self._last_chunk)
        if "choices" not in last:  # an error, or the end of an API that marks it in another way
            return held
        summary = await self._additions.summarise(response_id(last))
        if summary is None:
            return held
        if self._additions.own_chunk:
            shared = {name: value for name, value in last.items() if name in SHARED_FIELDS}
            own = make_event("", object_of(_with_summary({**shared, "choices": b"[]"}, summary)))
            return own + held if last["choices"] == b"[]" else held + own  # the usage stays last
        if not held:
            return b""
        return make_event("", object_of(_with_summary(_event_object(held), summary)))

    def _counted(self, event: bytes) -> bytes:
        if self._additions.num_generated() is None or b'"usage":{' not in event:
            return event
        fields = _event_object(event)
        self._count_once(fields)
        return make_event("", object_of(fields))

    def _count_once(self, fields: dict[str, bytes]) -> bool:
        """Where answers share tokens, count each shared token once in the usage; whether there was something to do."""
        num_generated, usage = self._additions.num_generated(), field_value(fields, "usage")
        if num_generated is None or not isinstance(usage, dict):
            return False
        for name in ("completion_tokens", "output_tokens"):
            if name in usage:
                if "total_tokens" in usage:
                    usage["total_tokens"] += num_generated - usage[name]
                usage[name] = num_generated
        fields["usage"] = to_json(usage)
        return True


def response_id(fields: Mapping[str, bytes]) -> Any:
    """The id in a response or a chunk; where tokens go in and out, vLLM calls it `request_id`."""
    return field_value(fields, "id") or field_value(fields, "request_id")


def _with_summary(fields: Mapping[str, bytes], summary: bytes | None) -> dict[str, bytes]:
    return dict(fields) if summary is None else {**fields, "forkpoint": summary}


def _event_object(event: bytes) -> dict[str, bytes]:
    """The fields of an event's data, none if it is something else."""
    return object_fields(event_fields(event)[1]) or {}


def _is_one_chunk(body: bytes) -> bool:
    return body.startswith(CHUNK) and body.find(b"\n\n") == len(body) - 2


def _may_be_last(chunk: bytes) -> bool:
    """Whether a chunk ends a choice, or has the usage. Text cannot look like it: its quotes are escaped."""
    return b'"finish_reason":"' in chunk or b'"choices":[]' in chunk
