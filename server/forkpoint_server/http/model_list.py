"""`GET /v1/models` also lists the aliases MODEL:POLICY."""

from __future__ import annotations

import json

from starlette.responses import JSONResponse
from starlette.types import Message, Send

from forkpoint_server.service import Service


class ModelAliases:
    """An ASGI `send` that lists `MODEL:POLICY` beside each model of `GET /v1/models`."""

    def __init__(self, send: Send, service: Service) -> None:
        self._send = send
        self._service = service
        self._start: Message | None = None
        self._body = b""

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start" and message["status"] == 200:
            self._start = message
            return
        if message["type"] != "http.response.body" or self._start is None:
            await self._send(message)
            return
        self._body += message.get("body", b"")
        if message.get("more_body"):
            return
        listed = json.loads(self._body)
        aliases = [
            {**model, "id": f"{model['id']}:{named.policy.name}", "parent": model["id"], "permission": []}
            for model in listed["data"]
            for named in self._service.registry
        ]
        listed["data"] += aliases
        response = JSONResponse(listed)
        kept = [
            (name, value) for name, value in self._start["headers"] if name not in (b"content-length", b"content-type")
        ]
        await self._send({**self._start, "headers": [*kept, *response.raw_headers]})
        await self._send({"type": "http.response.body", "body": response.body})
