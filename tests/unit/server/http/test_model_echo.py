"""The `model` of responses whose request named it MODEL:POLICY."""

from __future__ import annotations

import json
from typing import Any

import pytest
from starlette.types import Message

from forkpoint_server.http import event_stream
from forkpoint_server.http.json_fields import to_json
from forkpoint_server.http.model_echo import ModelEcho

ALIAS = "m:observe"


def make_event(name: str, data: Any) -> bytes:
    return event_stream.make_event(name, to_json(data))


async def echoed(*parts: bytes, kind: bytes = b"text/event-stream", status: int = 200) -> tuple[dict[Any, Any], bytes]:
    """The headers and the body of a response of the model `m`, sent in these parts."""
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    echo = ModelEcho(send, "m", ALIAS)
    await echo({"type": "http.response.start", "status": status, "headers": [(b"content-type", kind)]})
    for number, part in enumerate(parts, 1):
        await echo({"type": "http.response.body", "body": part, "more_body": number < len(parts)})
    return dict(sent[0]["headers"]), b"".join(message.get("body", b"") for message in sent[1:])


async def test_a_json_body_has_the_alias_and_its_own_length() -> None:
    body = json.dumps({"model": "m", "metadata": {"model": "m"}}).encode()
    headers, sent = await echoed(body[:4], body[4:], kind=b"application/json")
    assert json.loads(sent) == {"model": ALIAS, "metadata": {"model": "m"}}
    assert headers[b"content-length"] == str(len(sent)).encode()


@pytest.mark.parametrize("cut", [0, 7, 40])
async def test_every_chunk_has_the_alias(cut: int) -> None:
    """Text that looks like the field is left as it is."""
    text = {"index": 0, "text": '"model":"m"'}
    whole = make_event("", {"id": "r", "model": "m", "choices": [text]}) * 2 + b"data: [DONE]\n\n"
    _, sent = await echoed(whole[:cut], whole[cut:])
    assert sent == make_event("", {"id": "r", "model": ALIAS, "choices": [text]}) * 2 + b"data: [DONE]\n\n"


@pytest.mark.parametrize(("name", "holder"), [("response.completed", "response"), ("message_start", "message")])
async def test_an_event_has_the_alias_in_the_object_that_it_holds(name: str, holder: str) -> None:
    inner = {"model": "m", "metadata": {"model": "m"}}
    _, sent = await echoed(make_event(name, {holder: inner}))
    assert sent == make_event(name, {holder: {"model": ALIAS, "metadata": {"model": "m"}}})


async def test_other_models_errors_and_kinds_are_left_as_they_are() -> None:
    for body in (b'{"model": "other"}', b"[1]"):
        assert (await echoed(body, kind=b"application/json"))[1] == body
    for kind, status in ((b"application/json", 404), (b"text/plain", 200)):
        assert (await echoed(b'{"model": "m"}', kind=kind, status=status))[1] == b'{"model": "m"}'
