"""Signs of life in streams that are silent for long, and events out of the parts in which they are sent."""

from __future__ import annotations

import asyncio

import pytest
from starlette.types import Message

from forkpoint_server.http import event_stream
from forkpoint_server.http.event_stream import COMMENT, PING, EventSplitter, KeepAlive, event_fields, make_event

EVENT = make_event("", b'{"a":1}')


def test_events_are_whole_however_they_are_sent() -> None:
    whole = EVENT + make_event("b", b"[1]")
    for cut in range(len(whole)):
        splitter = EventSplitter()
        assert [*splitter.split(whole[:cut]), *splitter.split(whole[cut:])] == [EVENT, make_event("b", b"[1]")]
        assert splitter.rest == b""


def test_fields() -> None:
    data = '{"type":"é"}'.encode()
    assert event_fields(make_event("message_stop", data)) == ("message_stop", data)
    assert event_fields(EVENT) == ("", b'{"a":1}')


class Client:
    """What a client receives."""

    def __init__(self) -> None:
        self.body: list[bytes] = []
        self.received = asyncio.Event()

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.body":
            self.body.append(message["body"])
            self.received.set()


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_stream, "FIRST_SILENCE_SECONDS", 0.01)


async def stream(needed: bool = True, kind: str = "text/event-stream") -> tuple[Client, KeepAlive]:
    client = Client()
    keep_alive = KeepAlive(client, lambda: needed)
    await keep_alive({"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind.encode())]})
    return client, keep_alive


async def send(keep_alive: KeepAlive, event: bytes, more: bool = True) -> None:
    await keep_alive({"type": "http.response.body", "body": event, "more_body": more})


async def received(client: Client, number: int) -> None:
    while len(client.body) < number:
        client.received.clear()
        await client.received.wait()


@pytest.mark.usefixtures("fast")
async def test_a_silent_stream_shows_that_it_goes_on_until_it_ends() -> None:
    client, keep_alive = await stream()
    await received(client, 2)
    await send(keep_alive, EVENT, more=False)
    sent = list(client.body)
    await asyncio.sleep(0.05)
    assert client.body == sent == [*[COMMENT] * (len(sent) - 1), EVENT]


@pytest.mark.usefixtures("fast")
async def test_a_stream_of_messages_has_pings_once_its_message_has_started() -> None:
    client, keep_alive = await stream()
    await received(client, 1)
    start = make_event("message_start", b'{"message":{}}')
    await send(keep_alive, start)
    await received(client, client.body.index(start) + 2)
    keep_alive.stop()
    assert client.body[0] == COMMENT
    assert set(client.body[client.body.index(start) + 1 :]) == {PING}


@pytest.mark.usefixtures("fast")
@pytest.mark.parametrize(("needed", "kind"), [(False, "text/event-stream"), (True, "application/json")])
async def test_other_responses_have_no_signs_of_life(needed: bool, kind: str) -> None:
    client, _ = await stream(needed, kind)
    await asyncio.sleep(0.05)
    assert client.body == []


@pytest.mark.usefixtures("fast")
async def test_silences_grow() -> None:
    """No single one is most of the time that a stream takes."""
    client, keep_alive = await stream()
    loop, times = asyncio.get_running_loop(), []
    start = loop.time()
    for number in range(1, 5):
        await received(client, number)
        times.append(loop.time() - start)
    keep_alive.stop()
    assert times[3] >= 0.01 * (1 + 1.5 + 1.5**2 + 1.5**3)
