"""The `model` of a response is the name that the request used: clients compare the two, and MODEL:POLICY is a name."""

from __future__ import annotations

from starlette.datastructures import MutableHeaders
from starlette.types import Message, Send

from .event_stream import EventSplitter, event_fields, is_event_stream, is_json, make_event
from .json_fields import object_fields, object_of, to_json

HOLDERS = ("response", "message")
"""The fields of an event that hold the object whose `model` it is; a chunk holds it itself."""


class ModelEcho:
    """An ASGI `send` that replaces the served model's name by the alias that the request used."""

    def __init__(self, send: Send, model: str, alias: str) -> None:
        self._send = send
        self._model, self._alias = to_json(model), to_json(alias)
        self._plain, self._echoed = b'"model":' + self._model, b'"model":' + self._alias
        self._start: Message | None = None  # held back while a JSON body is collected: its length will change
        self._body = b""
        self._events: EventSplitter | None = None

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start" and is_json(message):
            self._start = message
            return
        if message["type"] == "http.response.start" and is_event_stream(message):
            self._events = EventSplitter()
        elif message["type"] == "http.response.body" and self._start is not None:
            self._body += message.get("body", b"")
            if message.get("more_body"):
                return
            message = {"type": "http.response.body", "body": self._echo_in_body(self._body)}
            MutableHeaders(raw=self._start["headers"])["content-length"] = str(len(message["body"]))
            await self._send(self._start)
        elif message["type"] == "http.response.body" and self._events is not None:
            body = b"".join(map(self._echo_in_event, self._events.split(message.get("body", b""))))
            if not message.get("more_body"):
                body += self._events.rest
            elif not body:
                return
            message = {**message, "body": body}
        await self._send(message)

    def _echo_in_body(self, body: bytes) -> bytes:
        fields = object_fields(body)
        if fields is None or fields.get("model") != self._model:
            return body
        return object_of({**fields, "model": self._alias})

    def _echo_in_event(self, event: bytes) -> bytes:
        if self._plain not in event:
            return event
        if event.startswith(b"data:"):  # a chunk: its first `model` is its own
            return event.replace(self._plain, self._echoed, 1)
        name, payload = event_fields(event)
        fields = object_fields(payload) or {}
        for holder in HOLDERS:
            if holder in fields:
                fields[holder] = self._echo_in_body(fields[holder])
        return make_event(name, object_of(fields)) if fields else event
