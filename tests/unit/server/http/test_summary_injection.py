"""The `forkpoint` object in JSON responses and in the streams of each API."""

from __future__ import annotations

import json
from typing import Any

import pytest
from starlette.types import Message

from forkpoint_server.http.summary_injection import SummaryInjection

STREAM = b"text/event-stream; charset=utf-8"


async def answer(
    *parts: bytes, kind: bytes = STREAM, status: int = 200, num_generated: int | None = None, adds: bool = True
) -> tuple[Message, bytes, SummaryInjection]:
    """The start, the body and the injection of a response that is sent in these parts."""
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def summarise(response_id: str | None) -> dict[str, Any]:
        return {"of": response_id}

    injection = SummaryInjection(
        send, lambda: {"X-Forkpoint-Policy": "nowait"} if adds else None, summarise, lambda: num_generated
    )
    await injection({"type": "http.response.start", "status": status, "headers": [(b"content-type", kind)]})
    for number, part in enumerate(parts, 1):
        await injection({"type": "http.response.body", "body": part, "more_body": number < len(parts)})
    start, *rest = sent
    return start, b"".join(message["body"] for message in rest), injection


def event(data: Any, name: str | None = None) -> bytes:
    return (b"" if name is None else f"event: {name}\n".encode()) + b"data: " + json.dumps(data).encode() + b"\n\n"


async def test_a_json_body_gets_the_summary_and_its_own_length() -> None:
    whole = json.dumps({"id": "r", "usage": {"completion_tokens": 9, "total_tokens": 12}}).encode()
    start, body, injection = await answer(whole[:5], whole[5:], kind=b"application/json", num_generated=4)
    assert json.loads(body) == {
        "id": "r",
        "usage": {"completion_tokens": 4, "total_tokens": 7},
        "forkpoint": {"of": "r"},
    }
    headers = dict(start["headers"])
    assert headers[b"content-length"] == str(len(body)).encode()
    assert headers[b"x-forkpoint-policy"] == b"nowait"
    assert injection.status == 200


@pytest.mark.parametrize(("kind", "status"), [(b"application/json", 400), (b"text/plain", 200)])
async def test_other_responses_get_headers_only(kind: bytes, status: int) -> None:
    start, body, injection = await answer(b'{"error": 1}', kind=kind, status=status)
    assert body == b'{"error": 1}'
    assert dict(start["headers"])[b"x-forkpoint-policy"] == b"nowait"
    assert injection.status == status


async def test_nothing_is_added_for_an_inactive_request() -> None:
    start, body, _ = await answer(b'{"id": "r"}', kind=b"application/json", adds=False)
    assert (start["headers"], body) == ([(b"content-type", b"application/json")], b'{"id": "r"}')


async def test_a_chat_stream_gets_one_more_chunk_before_done() -> None:
    chunk = event({"id": "r", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [{"index": 0}]})
    whole = chunk + b"data: [DONE]\n\n"
    for cut in (0, 3, len(chunk), len(chunk) + 4):
        _, body, injection = await answer(whole[:cut], whole[cut:])
        assert body.startswith(chunk)
        summary, done = body.removeprefix(chunk).split(b"\n\n", 1)
        assert json.loads(summary.removeprefix(b"data: ")) == {
            "id": "r", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [],
            "forkpoint": {"of": "r"},
        }  # fmt: skip
        assert done == b"data: [DONE]\n\n"
        assert injection.streamed_id == "r"


async def test_after_an_error_there_is_no_summary() -> None:
    whole = event({"error": {"message": "no"}}) + b"data: [DONE]\n\n"
    assert (await answer(whole))[1] == whole


async def test_the_last_event_of_a_responses_stream_has_the_summary() -> None:
    whole = event({"response": {"id": "r", "usage": {"output_tokens": 9}}}, "response.completed")
    _, body, _ = await answer(whole, num_generated=4)
    name, data = body.split(b"\n", 1)
    assert name == b"event: response.completed"
    assert json.loads(data.removeprefix(b"data: ")) == {
        "response": {"id": "r", "usage": {"output_tokens": 4}, "forkpoint": {"of": "r"}}
    }


async def test_a_messages_stream_gives_its_id_at_the_start_and_the_summary_at_the_end() -> None:
    whole = event({"message": {"id": "r"}}, "message_start") + event({"type": "message_stop"}, "message_stop")
    _, body, injection = await answer(whole)
    last = body.split(b"\n\n")[1]
    assert json.loads(last.split(b"data: ")[1]) == {"type": "message_stop", "forkpoint": {"of": "r"}}
    assert injection.streamed_id == "r"
