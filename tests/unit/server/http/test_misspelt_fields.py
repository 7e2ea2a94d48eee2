"""Fields of a body that are nearly ours are reported in a header of the response."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.responses import Response
from starlette.types import Message

from forkpoint_server.http.misspelt_fields import misspelt_fields, warning_of


@pytest.mark.parametrize(
    ("name", "meant"),
    [("Policy", "policy"), ("polcy", "policy"), ("fork", "forks"), ("policy-logprobs", "policy_logprobs")],
)
def test_misspelt(name: str, meant: str) -> None:
    (warning,) = misspelt_fields({"model": "m", name: 1})
    assert warning == f"{name!r} is not a field of a request, and was ignored; did you mean {meant!r}?"


@pytest.mark.parametrize(
    "name",
    ["policy", "forks", "policy_logprobs", "logprobs", "top_logprobs", "prompt", "user", "stop", "metadata"],
)
def test_right_names_and_those_of_others(name: str) -> None:
    assert misspelt_fields({name: 1}) == []


@pytest.mark.parametrize("name", ["polícy", "policy\n"])
def test_a_header_has_no_character_that_headers_lack(name: str) -> None:
    (warning,) = misspelt_fields({name: 1})
    assert warning.isascii()
    assert "\n" not in warning


async def test_warnings_are_headers() -> None:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.request"}

    warnings: list[str] = []
    wrapped = warning_of(send, warnings)
    warnings += ["one", "two"]  # known once the body is read
    await Response("x")({"type": "http"}, receive, wrapped)
    assert [value for name, value in sent[0]["headers"] if name == b"x-forkpoint-warning"] == [b"one", b"two"]
