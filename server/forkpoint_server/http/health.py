"""Warnings on vLLM's `/health`: its answer stays what it is, an empty 200, and a header says what a user should know."""

from __future__ import annotations

from urllib.parse import parse_qs

from starlette.datastructures import MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import Message, Scope, Send

HEALTH = "/health"
WARNING = "X-Forkpoint-Warning"


class HealthMiddleware:
    """An ASGI `send` for `/health`: with warnings as headers, and for `/health?details` with a JSON body that says them."""

    def __init__(self, send: Send, scope: Scope, warnings: list[str]) -> None:
        self._send = send
        self._scope = scope
        self._warnings = warnings
        self._detailed = "details" in parse_qs(scope.get("query_string", b"").decode(), keep_blank_values=True)
        self._status = 200

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            headers = MutableHeaders(raw=message["headers"])
            for warning in self._warnings:
                headers.append(WARNING, warning)
            if self._detailed:
                body = self._body()
                headers["content-length"], headers["content-type"] = str(len(body)), "application/json"
        elif message["type"] == "http.response.body" and self._detailed and not message.get("more_body"):
            message = {**message, "body": self._body()}
        await self._send(message)

    def _body(self) -> bytes:
        healthy = self._status == 200
        return bytes(JSONResponse({"status": "healthy" if healthy else "unhealthy", "warnings": self._warnings}).body)
