"""The HTTP server under our options: requests that ask for WebSockets, and clients that hold up its end."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.websockets import WebSocket

from forkpoint_server.http import uvicorn_options
from forkpoint_server.http.body import BodyLimit
from forkpoint_server.http.uvicorn_options import own_http_options

UPGRADE = (
    b"Connection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
)


async def echo(request: Request) -> Response:
    return Response(await request.body())


async def greet(websocket: WebSocket) -> None:
    await websocket.accept()


@asynccontextmanager
async def serving(*routes: BaseRoute) -> AsyncIterator[tuple[uvicorn.Server, int]]:
    """A uvicorn server with our options, and its port; it is cancelled at the end of the block, as vLLM does it."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        server = uvicorn.Server(
            uvicorn.Config(BodyLimit(Starlette(routes=list(routes)), 1 << 20), **own_http_options(routes))
        )
        server.config.load()
        running = asyncio.create_task(server.serve(sockets=[sock]))
        while not server.started:  # noqa: ASYNC110  # uvicorn signals it in no other way
            await asyncio.sleep(0.01)
        try:
            yield server, sock.getsockname()[1]
        finally:
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running


async def answer(port: int, request: bytes) -> bytes:
    """The first line of the response."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    line = await asyncio.wait_for(reader.readline(), 5)
    writer.close()
    return line


async def test_a_post_that_asks_for_a_websocket_is_answered() -> None:
    async with serving(Route("/", echo, methods=["GET", "POST"])) as (_, port):
        post = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n" + UPGRADE + b"\r\nbody"
        assert await answer(port, post) == b"HTTP/1.1 400 Bad Request\r\n"  # httptools drops its body
        assert await answer(port, post.replace(UPGRADE, b"")) == b"HTTP/1.1 200 OK\r\n"
        assert await answer(port, b"GET / HTTP/1.1\r\nHost: x\r\n" + UPGRADE + b"\r\n") == b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize("path", ["/", "/unread"])
async def test_a_body_that_arrives_after_its_answer_is_not_the_next_request(path: str) -> None:
    answered: list[str] = []

    async def note(request: Request) -> Response:
        answered.append(request.url.path)
        return Response()

    routes = (Route("/", echo, methods=["POST"]), Route("/unread", note, methods=["POST"]), Route("/smuggled", note))
    async with serving(*routes) as (_, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        body = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
        writer.write(head.encode() + UPGRADE + b"\r\n")
        assert b"connection: close\r\n" in await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
        with suppress(ConnectionError):  # the server has closed its side
            writer.write(body)
            await asyncio.wait_for(reader.read(), 5)
        writer.close()
        assert "/smuggled" not in answered


async def test_a_server_with_a_websocket_speaks_it() -> None:
    async with serving(WebSocketRoute("/", greet)) as (_, port):
        assert b" 101 " in await answer(port, b"GET / HTTP/1.1\r\nHost: x\r\n" + UPGRADE + b"\r\n")


async def test_a_client_that_sends_half_a_request_does_not_hold_up_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uvicorn_options, "SHUTDOWN_SECONDS", 1)
    async with serving(Route("/", echo, methods=["POST"])) as (server, port):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbo")
        while not server.server_state.tasks:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        started = time.monotonic()
        await asyncio.wait_for(server.shutdown(), 10)
        assert 1 <= time.monotonic() - started < 5
        writer.close()
