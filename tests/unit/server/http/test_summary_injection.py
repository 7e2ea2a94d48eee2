"""The `forkpoint` object in JSON responses and in the streams of each API."""

from __future__ import annotations

import json
import time
from itertools import pairwise
from typing import Any

import pytest
from starlette.types import Message

from forkpoint_server.http.summary_injection import Additions, SummaryInjection

STREAM = b"text/event-stream; charset=utf-8"
DONE = b"data: [DONE]\n\n"


async def answer(
    *parts: bytes,
    kind: bytes = STREAM,
    status: int = 200,
    num_generated: int | None = None,
    shows: bool = True,
    own_chunk: bool = False,
) -> tuple[Message, bytes, SummaryInjection]:
    """The start, the body and the injection of a response that is sent in these parts."""
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def summarise(response_id: str | None) -> bytes | None:
        return json.dumps({"of": response_id}).encode() if shows else None

    additions = Additions(
        lambda streams: {"X-Forkpoint-Policy": "nowait", **({"X-Streams": "yes"} if streams else {})} if shows else {},
        summarise,
        lambda: num_generated,
        own_chunk,
    )
    injection = SummaryInjection(send, additions)
    await injection({"type": "http.response.start", "status": status, "headers": [(b"content-type", kind)]})
    for number, part in enumerate(parts, 1):
        await injection({"type": "http.response.body", "body": part, "more_body": number < len(parts)})
    start, *rest = sent
    return start, b"".join(message["body"] for message in rest), injection


def event(data: Any, name: str | None = None) -> bytes:
    written = json.dumps(data, separators=(",", ":")).encode()
    return (b"" if name is None else f"event: {name}\n".encode()) + b"data: " + written + b"\n\n"


def chunk(**more: Any) -> dict[str, Any]:
    return {"id": "r", "object": "chat.completion.chunk", "created": 1, "model": "m", **more}


def data_of(body: bytes) -> list[Any]:
    """The data of each event, [DONE] left out."""
    return [json.loads(one.removeprefix(b"data: ")) for one in body.split(b"\n\n") if one and one + b"\n\n" != DONE]


GOES_ON = chunk(choices=[{"index": 0, "delta": {"content": '"finish_reason":"stop"'}, "finish_reason": None}])
ENDS = chunk(choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}])
ENDS_TOO = chunk(choices=[{"index": 1, "delta": {}, "finish_reason": "length"}])
USAGE = chunk(choices=[], usage={"completion_tokens": 9, "total_tokens": 12})


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


async def test_all_else_of_a_body_is_passed_on_in_its_own_bytes() -> None:
    written = b'{"id":"r", "created": 1.0E2,"choices":[{"text":"\\u00e9", "logprob": -9999.0}],"usage": null}'
    _, body, _ = await answer(written, kind=b"application/json", num_generated=4)
    assert body == (
        b'{"id":"r","created":1.0E2,"choices":[{"text":"\\u00e9", "logprob": -9999.0}],"usage":null,'
        b'"forkpoint":{"of": "r"}}'
    )
    for other in (b'["id"]', b'"id"', b'{"id": NaN}'):
        assert (await answer(other, kind=b"application/json"))[1] == other


async def test_a_long_response_does_not_hold_up_others() -> None:
    """Its log probabilities are not parsed: that would take longer than all else."""
    token = b'{"token":"Wait","bytes":[87,97,105,116],"logprob":-0.123,"top_logprobs":[{"token":"x","logprob":-1.5}]}'
    content = b"[" + b",".join([token] * 300_000) + b"]"
    chunk_of = b'"choices":[{"index":0,"logprobs":{"content":' + content + b'},"finish_reason":"stop"}]}'
    whole = b'{"id":"r","model":"m",' + chunk_of
    streamed = b"data: " + whole + b"\n\n"
    times = [time.process_time()]
    json.loads(whole)
    times.append(time.process_time())
    _, body, _ = await answer(whole, kind=b"application/json")
    times.append(time.process_time())
    _, stream, _ = await answer(streamed, DONE)
    times.append(time.process_time())
    assert body == whole[:-1] + b',"forkpoint":{"of": "r"}}'
    assert stream == streamed[:-3] + b',"forkpoint":{"of": "r"}}\n\n' + DONE
    parsed, collected, chunked = (end - start for start, end in pairwise(times))
    assert collected < parsed / 2
    assert chunked < parsed


@pytest.mark.parametrize(("kind", "status"), [(b"application/json", 400), (b"text/plain", 200)])
async def test_other_responses_get_headers_only(kind: bytes, status: int) -> None:
    start, body, injection = await answer(b'{"error": 1}', kind=kind, status=status)
    assert body == b'{"error": 1}'
    assert dict(start["headers"])[b"x-forkpoint-policy"] == b"nowait"
    assert injection.status == status


async def test_a_response_that_shows_nothing_is_passed_on_as_it_is() -> None:
    start, body, _ = await answer(b'{"id": "r"}', kind=b"application/json", shows=False)
    assert (start["headers"], body) == ([(b"content-type", b"application/json")], b'{"id": "r"}')
    for whole in (
        event(GOES_ON) + event(ENDS) + event(USAGE) + DONE,
        event({"response": {"id": "r"}}, "response.completed"),
        event({"type": "message_stop"}, "message_stop"),
    ):
        start, body, _ = await answer(whole, shows=False)
        assert (start["headers"], body) == ([(b"content-type", STREAM)], whole)


@pytest.mark.parametrize(
    "chunks", [[GOES_ON, ENDS], [GOES_ON, ENDS, USAGE], [GOES_ON, ENDS, GOES_ON, ENDS_TOO], [ENDS]], ids=len
)
async def test_the_last_chunk_has_the_summary_and_there_is_none_more(chunks: list[Any]) -> None:
    """However the stream is cut into parts: clients read `choices[0]` of every chunk but the one with the usage."""
    whole = b"".join(map(event, chunks)) + DONE
    for cut in (0, 3, len(event(chunks[0])), len(whole) - len(DONE), len(whole) - 1):
        start, body, injection = await answer(whole[:cut], whole[cut:])
        assert data_of(body) == [*chunks[:-1], {**chunks[-1], "forkpoint": {"of": "r"}}]
        assert body.endswith(DONE)
        assert injection.streamed_id == "r"
        assert dict(start["headers"])[b"x-streams"] == b"yes"


@pytest.mark.parametrize(("chunks", "place"), [([GOES_ON, ENDS], 2), ([GOES_ON, ENDS, USAGE], 2), ([GOES_ON], 1)])
async def test_a_client_that_requests_it_gets_a_chunk_more(chunks: list[Any], place: int) -> None:
    """The chunk with the usage stays the last one."""
    _, body, _ = await answer(*map(event, chunks), DONE, own_chunk=True)
    assert data_of(body) == [*chunks[:place], chunk(choices=[], forkpoint={"of": "r"}), *chunks[place:]]


async def test_a_stream_without_an_end_has_no_place_for_the_summary() -> None:
    _, body, _ = await answer(event(GOES_ON), DONE)
    assert body == event(GOES_ON) + DONE


async def test_a_chunk_is_held_back_no_longer_than_until_the_next_event() -> None:
    _, body, _ = await answer(event(ENDS), event(GOES_ON), b"")
    assert data_of(body) == [ENDS, GOES_ON]
    _, body, _ = await answer(event(ENDS), b"")  # a stream that is cut off
    assert data_of(body) == [ENDS]


async def test_after_an_error_there_is_no_summary() -> None:
    whole = event(ENDS) + event({"error": {"message": "no"}}) + DONE
    assert (await answer(whole))[1] == whole


async def test_shared_tokens_are_counted_once_even_where_nothing_is_shown() -> None:
    _, body, _ = await answer(event(ENDS), event(USAGE), DONE, num_generated=4, shows=False)
    assert data_of(body) == [ENDS, {**USAGE, "usage": {"completion_tokens": 4, "total_tokens": 7}}]


async def test_the_last_event_of_a_responses_stream_has_the_summary() -> None:
    opened = event({"response": {"id": "r"}}, "response.created")
    whole = opened + event({"response": {"id": "r", "usage": {"output_tokens": 9}}}, "response.completed")
    _, body, injection = await answer(whole, num_generated=4)
    name, data = body.removeprefix(opened).split(b"\n", 1)
    assert name == b"event: response.completed"
    assert json.loads(data.removeprefix(b"data: ")) == {
        "response": {"id": "r", "usage": {"output_tokens": 4}, "forkpoint": {"of": "r"}}
    }
    assert injection.streamed_id == "r"


async def test_a_messages_stream_gives_its_id_at_the_start_and_the_summary_at_the_end() -> None:
    whole = event({"message": {"id": "r"}}, "message_start") + event({"type": "message_stop"}, "message_stop")
    _, body, injection = await answer(whole)
    last = body.split(b"\n\n")[1]
    assert json.loads(last.split(b"data: ")[1]) == {"type": "message_stop", "forkpoint": {"of": "r"}}
    assert injection.streamed_id == "r"
