"""Requests that arrive while the server stops: 503 at once, so that a router or a client tries another server."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus

from starlette.types import ASGIApp, Receive, Scope, Send

from forkpoint_server.errors import ApiError, error_response
from forkpoint_server.shutdown import STOPPING

from .paths import OWN, STATES, path_of

RETRY_SECONDS = 1
"""A router has another server at once; a client that has only this one retries more than once."""


class RefuseWhenStopping:
    """Answers 503 to every POST but those to Forkpoint's own routes, and closes the connection."""

    def __init__(self, app: ASGIApp, is_stopping: Callable[[], bool]) -> None:
        self._app = app
        self._is_stopping = is_stopping

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = path_of(scope)
        needs_engine = not path.startswith(OWN) or path.startswith(STATES)
        if scope["type"] == "http" and scope["method"] == "POST" and needs_engine and self._is_stopping():
            refusal = ApiError(HTTPStatus.SERVICE_UNAVAILABLE, STOPPING, retry_seconds=RETRY_SECONDS)
            response = error_response(refusal, path)
            response.headers["Connection"] = "close"
            await response(scope, receive, send)
            return
        await self._app(scope, receive, send)
