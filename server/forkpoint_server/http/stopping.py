"""Requests that arrive while the server stops: 503 at once, so that a router or a client tries another server."""

from __future__ import annotations

from http import HTTPStatus

from starlette.types import ASGIApp, Receive, Scope, Send

from forkpoint_server.errors import ApiError, error_response
from forkpoint_server.shutdown import STOPPING, Drain

from .paths import OWN, STATES, path_of

RETRY_SECONDS = 1
"""A router has another server at once; a client that has only this one retries more than once."""


class RefuseWhenStopping:
    """Answers 503 to a POST that comes after the signal, and closes the connection; counts those that run.

    Forkpoint's own routes need no engine and are served to the end, but for `/v1/states`.
    """

    def __init__(self, app: ASGIApp, drain: Drain) -> None:
        self._app = app
        self._drain = drain

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = path_of(scope)
        needs_engine = not path.startswith(OWN) or path.startswith(STATES)
        if scope["type"] != "http" or scope["method"] != "POST" or not needs_engine:
            await self._app(scope, receive, send)
            return
        with self._drain.counted() as in_time:
            if in_time:
                await self._app(scope, receive, send)
                return
        refusal = ApiError(HTTPStatus.SERVICE_UNAVAILABLE, STOPPING, retry_seconds=RETRY_SECONDS)
        response = error_response(refusal, path)
        response.headers["Connection"] = "close"
        await response(scope, receive, send)
