"""How much of a body is read."""

from __future__ import annotations

from http import HTTPStatus

import pytest
from starlette.types import Message, Receive, Scope

from forkpoint_server.errors import ApiError
from forkpoint_server.http.body import limited

MOST = 1 << 20


def client(*parts: bytes) -> tuple[Receive, list[bytes]]:
    """A client that sends these parts, and those that are left."""
    left = list(parts)

    async def receive() -> Message:
        return (
            {"type": "http.request", "body": left.pop(0), "more_body": bool(left)}
            if left
            else {"type": "http.disconnect"}
        )

    return receive, left


def scope(*headers: tuple[bytes, bytes]) -> Scope:
    return {"type": "http", "headers": list(headers)}


async def test_what_fits_is_passed_on() -> None:
    receive = limited(scope((b"content-length", str(MOST).encode())), client(b"x" * (MOST - 1), b"y")[0], MOST)
    assert (await receive())["more_body"]
    assert (await receive())["body"] == b"y"
    assert (await receive())["type"] == "http.disconnect"


async def test_the_part_that_is_too_much_is_the_last_that_is_read() -> None:
    sent, left = client(b"x" * MOST, b"y", b"z")
    receive = limited(scope(), sent, MOST)
    await receive()
    for _ in range(2):
        with pytest.raises(ApiError, match="larger than 1 MiB") as caught:
            await receive()
        assert caught.value.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    assert left == [b"z"]


async def test_nothing_is_read_of_what_says_that_it_is_too_much() -> None:
    sent, left = client(b"x")
    with pytest.raises(ApiError):
        await limited(scope((b"content-length", str(MOST + 1).encode())), sent, MOST)()
    assert left == [b"x"]


@pytest.mark.parametrize("stated", [b"", b"x", b"-1", b"1e9"])
async def test_a_length_that_is_none_says_nothing(stated: bytes) -> None:
    assert (await limited(scope((b"content-length", stated)), client(b"x")[0], MOST)())["body"] == b"x"
