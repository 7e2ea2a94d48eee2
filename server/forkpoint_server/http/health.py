"""Warnings on vLLM's `/health`: headers beside its empty 200; `/health?details` has them in a JSON body too.

An engine that takes requests and answers none is a failure: 503, where vLLM would see only that its process lives.
"""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from urllib.parse import parse_qs

from starlette.datastructures import MutableHeaders
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .paths import HEALTH, path_of

WARNING = "X-Forkpoint-Warning"


class HealthWarnings:
    """Adds the server's `warnings`, one header each. No warning makes a server unhealthy; its `failure` does."""

    def __init__(self, app: ASGIApp, warnings: Callable[[], list[str]], failure: Callable[[], str | None]) -> None:
        self._app = app
        self._warnings = warnings
        self._failure = failure

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if path_of(scope) != HEALTH:
            await self._app(scope, receive, send)
            return
        failure = self._failure()
        app = self._app if failure is None else Response(status_code=HTTPStatus.SERVICE_UNAVAILABLE)
        warnings = [*([] if failure is None else [failure]), *self._warnings()]
        # only GET is a question about the server's health: vLLM answers other methods with 405
        query = scope.get("query_string", b"").decode("latin-1")
        detailed = scope["method"] == "GET" and "details" in parse_qs(query, keep_blank_values=True)
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

        await app(scope, receive, send_with_warnings)


def _details(status: int, warnings: list[str]) -> bytes:
    return bytes(JSONResponse({"status": "healthy" if status == 200 else "unhealthy", "warnings": warnings}).body)
