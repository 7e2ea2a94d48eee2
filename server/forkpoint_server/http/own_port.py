"""A port of one API server alone, of several that share the main one: the other servers ask it there for its traces."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import uvicorn
from fastapi import APIRouter, FastAPI

from forkpoint_policies.spec import InputError
from forkpoint_server.errors import ApiError, handle_error

POLL_SECONDS = 0.02


class _BesideAnother(uvicorn.Server):
    """Leaves the signals to the process's main server."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@asynccontextmanager
async def answering(router: APIRouter, sock: socket.socket, options: Mapping[str, Any]) -> AsyncIterator[None]:
    """Serve these routes, and nothing else, on a bound socket until the block ends. `options` are uvicorn's."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    app.add_exception_handler(ApiError, handle_error)
    app.add_exception_handler(InputError, handle_error)
    app.include_router(router)
    config = uvicorn.Config(app, lifespan="off", log_config=None, log_level="warning", **options)
    server = _BesideAnother(config)
    task = asyncio.create_task(server.serve(sockets=[sock]), name="forkpoint-own-port")
    while not (server.started or task.done()):  # noqa: ASYNC110  # nothing signals it
        await asyncio.sleep(POLL_SECONDS)
    try:
        yield
    finally:
        server.should_exit = True
        await asyncio.gather(task, return_exceptions=True)
