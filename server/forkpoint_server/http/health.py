"""Warnings on vLLM's `/health`: headers beside its empty 200; `/health?details` has them in a JSON body too."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import parse_qs

from starlette.datastructures import MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .paths import HEALTH, path_of

WARNING = "X-Forkpoint-Warning"


class HealthWarnings:
    """Adds the server's `warnings`, one header each. The status stays vLLM's: no warning makes a server unhealthy."""

    def __init__(self, app: ASGIApp, warnings: Callable[[], list[str]]) -> None:
        self._app = app
        self._warnings = warnings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if path_of(scope) != HEALTH:
            await self._app(scope, receive, send)
            return
        warnings = self._warnings()
        detailed = "details" in parse_qs(scope.get("query_string", b"").decode(), keep_blank_values=True)
        body = b""

        async def send_with_warnings(message: Message) -> None:
            nonlocal body
            if message["type"] == "http.response.start":
                headers = MutableHeaders(raw=message["headers"])
                for warning in warnings:
                    headers.append(WARNING, warning)
                if detailed:
                    body = _details(message["status"], warnings)
                    headers["content-length"], headers["content-type"] = str(len(body)), "application/json"
            elif message["type"] == "http.response.body" and detailed and not message.get("more_body"):
                message = {**message, "body": body}
            await send(message)

        await self._app(scope, receive, send_with_warnings)


def _details(status: int, warnings: list[str]) -> bytes:
    return bytes(JSONResponse({"status": "healthy" if status == 200 else "unhealthy", "warnings": warnings}).body)
