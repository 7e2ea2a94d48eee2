"""The port on which the other servers ask one API server: it has their routes only, and ends with its block."""

from __future__ import annotations

import signal
import socket

import httpx
import pytest
from fastapi import APIRouter

from forkpoint_server.errors import not_found
from forkpoint_server.http.own_port import answering


async def test_only_its_routes_until_the_end() -> None:
    router = APIRouter()

    @router.get("/replica/trace")
    async def trace(name: str) -> dict[str, str]:
        if name != "here":
            raise not_found("is not here", "name")
        return {"name": name}

    sock = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{sock.getsockname()[1]}"
    handler = signal.getsignal(signal.SIGTERM)
    async with httpx.AsyncClient(trust_env=False) as client:
        async with answering(router, sock, {"ws": "none", "timeout_graceful_shutdown": 1}):
            assert signal.getsignal(signal.SIGTERM) is handler, "the main server handles signals"
            assert (await client.get(f"{url}/replica/trace?name=here")).json() == {"name": "here"}
            missing = await client.get(f"{url}/replica/trace?name=gone")
            assert (missing.status_code, missing.json()["error"]["param"]) == (404, "name")
            for path in ("/v1/forks", "/metrics", "/health", "/docs", "/openapi.json", "/v1/completions"):
                assert (await client.get(url + path)).status_code == 404, path
        with pytest.raises(httpx.TransportError):
            await client.get(f"{url}/replica/trace?name=here")
