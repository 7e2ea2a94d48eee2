"""The aliases in the list of models."""

from __future__ import annotations

import json

import pytest
from starlette.responses import JSONResponse
from starlette.types import Message, Receive, Scope, Send

from forkpoint_server.http.model_list import ALL, POLICIES, ModelAliases
from forkpoint_server.policies.registry import Registry

REGISTRY = Registry()
MODELS = {"object": "list", "data": [{"id": "m", "root": "m", "permission": [{"id": "p"}]}]}


async def answer(
    method: str = "GET", path: str = "/v1/models", status: int = 200, listed: tuple[str, ...] = (ALL,)
) -> list[Message]:
    """The messages that the client receives from an app that sends its body in two parts."""
    sent: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        response = JSONResponse(MODELS, status, {"x-request-id": "r"})
        await send({"type": "http.response.start", "status": status, "headers": response.raw_headers})
        await send({"type": "http.response.body", "body": bytes(response.body[:9]), "more_body": True})
        await send({"type": "http.response.body", "body": bytes(response.body[9:])})

    async def receive() -> Message:
        return {"type": "http.request"}

    async def send(message: Message) -> None:
        sent.append(message)

    await ModelAliases(app, REGISTRY, listed)({"type": "http", "method": method, "path": path}, receive, send)
    return sent


async def test_each_policy_of_each_model_is_listed_after_the_models() -> None:
    start, body = await answer()
    listed = json.loads(body["body"])
    first, *aliases = listed["data"]
    assert (listed["object"], first) == ("list", MODELS["data"][0])
    assert [alias["id"] for alias in aliases] == [f"m:{named.policy.name}" for named in REGISTRY]
    assert aliases[0] == {"id": aliases[0]["id"], "root": "m", "parent": "m", "permission": []}
    headers = dict(start["headers"])
    assert headers[b"content-length"] == str(len(body["body"])).encode()
    assert headers[b"x-request-id"] == b"r"


async def test_only_the_aliases_that_the_operator_wants_are_listed() -> None:
    _, body = await answer(listed=("observe", "nowait"))
    assert {model["id"] for model in json.loads(body["body"])["data"]} == {"m", "m:observe", "m:nowait"}
    _, *parts = await answer(listed=())
    assert json.loads(b"".join(part["body"] for part in parts)) == MODELS


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/v1/models", 401), ("POST", "/v1/models", 200), ("GET", "/v1/models/m", 200)],
)
async def test_other_routes_are_passed_on(method: str, path: str, status: int) -> None:
    start, *parts = await answer(method, path, status)
    assert start["status"] == status
    assert json.loads(b"".join(part["body"] for part in parts)) == MODELS


async def test_policies_are_listed_without_their_placebos() -> None:
    *_, body = await answer(listed=(POLICIES,))
    names = [model["id"] for model in json.loads(body["body"])["data"]]
    assert "m:nowait" in names
    assert not any(name.endswith(".placebo") for name in names)
    assert len(names) == 1 + sum(not named.policy.name.endswith(".placebo") for named in REGISTRY)
