"""`GET /v1/models` also lists the aliases MODEL:POLICY."""

from __future__ import annotations

import json
from typing import Any

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from forkpoint_server.policies.registry import Registry

from .paths import MODELS, path_of


class ModelAliases:
    """Lists `MODEL:POLICY` beside each model, for every registered policy."""

    def __init__(self, app: ASGIApp, registry: Registry) -> None:
        self._app = app
        self._registry = registry

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if path_of(scope) != MODELS or scope["method"] != "GET":
            await self._app(scope, receive, send)
            return
        start: Message | None = None  # held back: the length of the body will change
        body = b""

        async def send_with_aliases(message: Message) -> None:
            nonlocal start, body
            if message["type"] == "http.response.start" and message["status"] == 200:
                start = message
                return
            if message["type"] != "http.response.body" or start is None:
                await send(message)
                return
            body += message.get("body", b"")
            if message.get("more_body"):
                return
            response = JSONResponse(self._with_aliases(json.loads(body)))
            replaced = (b"content-length", b"content-type")
            headers = [(name, value) for name, value in start["headers"] if name not in replaced]
            await send({**start, "headers": [*headers, *response.raw_headers]})
            await send({"type": "http.response.body", "body": response.body})

        await self._app(scope, receive, send_with_aliases)

    def _with_aliases(self, listed: dict[str, Any]) -> dict[str, Any]:
        aliases = [
            {**model, "id": f"{model['id']}:{named.policy.name}", "parent": model["id"], "permission": []}
            for model in listed["data"]
            for named in self._registry
        ]
        return {**listed, "data": [*listed["data"], *aliases]}
