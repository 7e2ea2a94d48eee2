"""Which exchanges count as answered."""

from __future__ import annotations

import pytest
from starlette.types import Message

from forkpoint_server.http.body import Exchange


async def went(*messages: Message) -> Exchange:
    """An exchange in which the client and the server said this, one after the other."""
    said: list[Message] = []
    heard = iter(
        [one for one in messages if one["type"].startswith("http.") and not one["type"].startswith("http.response")]
    )

    async def receive() -> Message:
        return next(heard)

    async def send(message: Message) -> None:
        said.append(message)

    exchange = Exchange(receive, send)
    for message in messages:
        if message["type"].startswith("http.response"):
            await exchange.send(message)
        else:
            assert await exchange.receive() == message
    assert said == [one for one in messages if one["type"].startswith("http.response")]
    return exchange


ASKED = {"type": "http.request", "body": b"{}"}
LEFT = {"type": "http.disconnect"}
MORE = {"type": "http.response.body", "body": b"a", "more_body": True}
LAST = {"type": "http.response.body", "body": b"b"}


def status(number: int) -> Message:
    return {"type": "http.response.start", "status": number, "headers": []}


@pytest.mark.parametrize(
    ("messages", "answered"),
    [
        ((ASKED, status(200), LAST), True),
        ((ASKED, status(200), MORE, LAST), True),
        ((ASKED, status(200), LAST, LEFT), True),
        ((ASKED, status(200), MORE), False),
        ((ASKED, status(200), MORE, LEFT, LAST), False),
        ((ASKED, LEFT, status(200), LAST), False),
        ((ASKED, status(400), LAST), False),
        ((ASKED,), False),
    ],
)
async def test_answered(messages: tuple[Message, ...], answered: bool) -> None:
    assert (await went(*messages)).answered is answered
