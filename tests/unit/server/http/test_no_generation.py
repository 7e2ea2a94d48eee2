"""For a model that generates nothing, vLLM's routes are as they are, policies are refused, and our routes say why."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from forkpoint_server.http.no_generation import WithoutGeneration


async def echo(request: Request) -> PlainTextResponse:
    return PlainTextResponse(await request.body())


async def send(method: str, path: str, **options: Any) -> httpx.Response:
    methods = ["GET", "POST", "PUT", "DELETE"]
    app = WithoutGeneration(Starlette(routes=[Route("/{path:path}", echo, methods=methods)]), lambda: ["emb"])
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://server") as client:
        return await client.request(method, path, **options)


@pytest.mark.parametrize(
    "content",
    [
        b'{"model":"emb", "input":"use 3"}', b'{"model":"emb","policy":null,"forks":false}', b'{"model":"emb:x:y"}',
        b'{"policy":"none"}', b"[1]", b"not JSON", b"",
    ],
)  # fmt: skip
async def test_a_request_without_a_policy_arrives_byte_for_byte(content: bytes) -> None:
    answered = await send("POST", "/v1/embeddings", content=content, headers={"X-Forkpoint-Policy": ""})
    assert (answered.status_code, answered.content) == (200, content)


@pytest.mark.parametrize(
    ("body", "headers", "field"),
    [
        ({"policy": "nowait"}, {}, "policy"),
        ({"policy": {"rules": []}}, {}, "policy"),
        ({"forks": True}, {}, "forks"),
        ({"policy_logprobs": True}, {}, "policy_logprobs"),
        ({"forks": "often"}, {}, "forks"),
        ({"model": "emb:nowait"}, {}, "model"),
        ({}, {"X-Forkpoint-Policy": "nowait"}, "x-forkpoint-policy"),
    ],
)
async def test_a_request_with_a_policy_is_refused(body: dict[str, Any], headers: dict[str, str], field: str) -> None:
    answered = await send("POST", "/v1/embeddings", json=body, headers=headers)
    assert answered.status_code == 400
    assert answered.json()["error"]["param"] == field


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/policies"), ("PUT", "/v1/policies/own"), ("GET", "/v1/experiments"), ("GET", "/v1/calibration"),
        ("GET", "/v1/forks/chatcmpl-1"), ("POST", "/v1/forks"), ("GET", "/forkpoint"), ("GET", "/forkpoint/main.js"),
    ],
)  # fmt: skip
async def test_our_routes_say_why_they_are_not_there(method: str, path: str) -> None:
    answered = await send(method, path)
    assert answered.status_code == 404
    assert answered.json()["error"]["message"].startswith("emb generates no text here, so it has no policies")


async def test_others_are_vllms() -> None:
    assert (await send("GET", "/v1/models")).status_code == 200
