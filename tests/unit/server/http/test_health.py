"""The warnings on vLLM's health route."""

from __future__ import annotations

import json

import pytest
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from forkpoint_server.http.health import WARNING, HealthWarnings


async def answer(
    warnings: list[str],
    status: int = 200,
    path: str = "/health",
    query: bytes = b"",
    failure: str | None = None,
    method: str = "GET",
) -> list[Message]:
    """The messages that the client receives from a server with these warnings."""
    sent: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await Response(status_code=status)(scope, receive, send)

    async def receive() -> Message:
        return {"type": "http.request"}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "method": method, "path": path, "query_string": query, "headers": []}
    await HealthWarnings(app, lambda: warnings, lambda: failure)(scope, receive, send)
    return sent


def warnings_of(start: Message) -> list[str]:
    return [value.decode() for name, value in start["headers"] if name.decode().lower() == WARNING.lower()]


@pytest.mark.parametrize("warnings", [[], ["one"], ["one", "two"]])
@pytest.mark.parametrize("status", [200, 503])
async def test_each_warning_is_a_header_and_the_status_stays(warnings: list[str], status: int) -> None:
    start, body = await answer(warnings, status)
    assert (start["status"], body["body"]) == (status, b"")
    assert warnings_of(start) == warnings


@pytest.mark.parametrize(("status", "said"), [(200, "healthy"), (503, "unhealthy")])
@pytest.mark.parametrize("query", [b"details", b"details=1"])
async def test_details_are_a_body(status: int, said: str, query: bytes) -> None:
    start, body = await answer(["one"], status, query=query)
    assert json.loads(body["body"]) == {"status": said, "warnings": ["one"]}
    headers = dict(start["headers"])
    assert headers[b"content-length"] == str(len(body["body"])).encode()
    assert headers[b"content-type"] == b"application/json"


@pytest.mark.parametrize("method", ["POST", "HEAD", "OPTIONS"])
async def test_only_a_get_has_details(method: str) -> None:
    """vLLM answers 405 to other methods, which says nothing about the server's health."""
    start, body = await answer(["one"], 405, query=b"details", method=method)
    assert (start["status"], body["body"]) == (405, b"")


async def test_a_query_of_any_bytes_is_read() -> None:
    start, body = await answer([], query=b"\xff\xfe&details")
    assert (start["status"], json.loads(body["body"])) == (200, {"status": "healthy", "warnings": []})


async def test_other_routes_have_no_warnings() -> None:
    start, _ = await answer(["one"], path="/ping")
    assert warnings_of(start) == []


async def test_a_failure_is_unhealthy_where_vllm_sees_none() -> None:
    start, body = await answer(["one"], query=b"details", failure="stalled")
    assert start["status"] == 503
    assert warnings_of(start) == ["stalled", "one"]
    assert json.loads(body["body"]) == {"status": "unhealthy", "warnings": ["stalled", "one"]}
    assert (await answer([], path="/v1/models", failure="stalled"))[0]["status"] == 200
