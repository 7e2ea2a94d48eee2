"""Requests that arrive while the server stops."""

from __future__ import annotations

import json
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from forkpoint_server.http.stopping import RefuseWhenStopping
from forkpoint_server.shutdown import STOPPING, Drain, drain_of_one


async def served(_: Request) -> PlainTextResponse:
    return PlainTextResponse("served")


def client(drain: Drain) -> TestClient:
    route = Route("/{path:path}", served, methods=["GET", "POST", "PUT"])
    return TestClient(Starlette(routes=[route], middleware=[Middleware(RefuseWhenStopping, drain=drain)]))


@pytest.mark.parametrize(
    "path",
    ["/v1/completions", "/v1/chat/completions", "/inference/v1/generate", "/v1/forks", "/v1/states", "/tokenize"],
)
def test_what_needs_the_engine_is_refused_from_the_signal_on(path: str) -> None:
    drain = drain_of_one()
    server = client(drain)
    assert server.post(path).text == "served"
    drain.finish(0)
    refused = server.post(path)
    assert refused.status_code == 503
    assert (refused.headers["retry-after"], refused.headers["connection"]) == ("1", "close")
    error = refused.json()["error"]
    assert (error["message"], error["type"], error["code"]) == (STOPPING, "ServiceUnavailableError", 503)


def test_the_error_has_the_form_of_its_route() -> None:
    drain = drain_of_one()
    drain.finish(0)
    body: dict[str, Any] = json.loads(client(drain).post("/v1/messages").text)
    assert body == {"type": "error", "error": {"type": "overloaded_error", "message": STOPPING}}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/metrics"),
        ("GET", "/v1/forks/cmpl-1"),
        ("POST", "/v1/experiments/one/outcomes"),
        ("PUT", "/v1/policies/one"),
    ],
)
def test_what_needs_no_engine_is_served_to_the_end(method: str, path: str) -> None:
    drain = drain_of_one()
    drain.finish(0)
    assert client(drain).request(method, path).text == "served"
