"""How much of a body is read, what is parsed of it, and which exchanges count as answered."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Any

import pytest
from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import Message, Receive, Scope, Send

from forkpoint_policies.spec import InputError
from forkpoint_server.errors import ApiError
from forkpoint_server.http.body import MAX_OWN_BYTES, BodyLimit, DisconnectTracker, read_body

MAX = 1 << 20


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


def scope(*headers: tuple[bytes, bytes], path: str = "/v1/completions") -> Scope:
    return {"type": "http", "path": path, "headers": list(headers)}


class Reader:
    """An app that receives `times` messages, and answers 200."""

    def __init__(self, times: int) -> None:
        self.times = times
        self.received: list[Message] = []
        self.errors: list[ApiError] = []
        self.hides_errors = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        for _ in range(self.times):
            try:
                self.received.append(await receive())
            except ApiError as error:
                self.errors.append(error)
                if not self.hides_errors:
                    raise
        await PlainTextResponse("done")(scope, receive, send)


async def limited(app: Reader, receive: Receive, scope: Scope, max_bytes: int = MAX) -> list[Message]:
    """The messages that the client receives."""
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    await BodyLimit(app, max_bytes)(scope, receive, send)
    return sent


async def test_a_body_within_the_limit_is_passed_on() -> None:
    app = Reader(3)
    receive, _ = client(b"x" * (MAX - 1), b"y")
    sent = await limited(app, receive, scope((b"content-length", str(MAX).encode())))
    assert app.received[0]["more_body"]
    assert app.received[1]["body"] == b"y"
    assert app.received[2]["type"] == "http.disconnect"
    assert sent[0]["status"] == HTTPStatus.OK


@pytest.mark.parametrize("stated", ["0" * 5000 + "1", "-1", "x", "\xb2"])
async def test_a_length_that_is_small_or_no_number_says_nothing(stated: str) -> None:
    app = Reader(1)
    receive, _ = client(b"x")
    sent = await limited(app, receive, scope((b"content-length", stated.encode("latin-1", "replace"))))
    assert sent[0]["status"] == HTTPStatus.OK


async def test_a_length_of_more_digits_than_python_reads_is_too_large() -> None:
    receive, left = client(b"x")
    sent = await limited(Reader(1), receive, scope((b"content-length", b"9" * 5000)))
    assert (sent[0]["status"], left) == (HTTPStatus.REQUEST_ENTITY_TOO_LARGE, [b"x"])


@pytest.mark.parametrize("hides_errors", [False, True])
async def test_reading_stops_at_the_part_that_exceeds_the_limit(hides_errors: bool) -> None:
    """The client gets one response, a 413, even if a handler converts the error."""
    app = Reader(3)
    app.hides_errors = hides_errors
    receive, left = client(b"x" * MAX, b"y", b"z")
    sent = await limited(app, receive, scope())
    assert [error.status for error in app.errors] == [HTTPStatus.REQUEST_ENTITY_TOO_LARGE] * (1 + hides_errors)
    assert left == [b"z"]
    start, body = sent
    assert start["status"] == HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    error = json.loads(body["body"])["error"]
    assert "larger than 1 MiB" in error["message"]
    assert error["param"] == "body"


async def test_a_body_whose_declared_length_is_over_the_limit_is_not_read() -> None:
    app = Reader(1)
    receive, left = client(b"x")
    sent = await limited(app, receive, scope((b"content-length", str(MAX + 1).encode())))
    assert sent[0]["status"] == HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    assert left == [b"x"]


@pytest.mark.parametrize("stated", [b"", b"x", b"-1", b"1e9"])
async def test_an_invalid_content_length_is_ignored(stated: bytes) -> None:
    app = Reader(1)
    await limited(app, client(b"x")[0], scope((b"content-length", stated)))
    assert app.received[0]["body"] == b"x"


@pytest.mark.parametrize(("path", "status"), [("/v1/completions", 200), ("/v1/policies/mine", 413), ("/v1/forks", 413)])
async def test_our_own_routes_read_less(path: str, status: int) -> None:
    stated = scope((b"content-length", str(MAX_OWN_BYTES + 1).encode()), path=path)
    sent = await limited(Reader(1), client(b"x")[0], stated, max_bytes=4 * MAX_OWN_BYTES)
    assert sent[0]["status"] == status


async def test_an_error_of_another_kind_is_not_ours() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise ApiError(HTTPStatus.CONFLICT, "no")

    with pytest.raises(ApiError, match="no"):
        await BodyLimit(app, MAX)(scope(), client(b"x")[0], None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("raw", "data"),
    [(b'{"a": 1}', {"a": 1}), (b"[1]", None), (b"{", None), (b"\xff", None), (b"", None)],
    ids=["object", "list", "not JSON", "not text", "nothing"],
)
async def test_a_body_is_parsed_if_it_is_an_object(raw: bytes, data: Any) -> None:
    body = await read_body(client(raw[:1], raw[1:])[0])
    assert (body.raw, body.data) == (raw, data)
    receive = body.replay()
    assert await receive() == {"type": "http.request", "body": raw, "more_body": False}
    assert await receive() == {"type": "http.disconnect"}


async def test_a_body_that_is_nested_too_deeply_is_refused() -> None:
    with pytest.raises(InputError, match="inside each other"):
        await read_body(client(b"[" * 100_000)[0])


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        ([(b"upgrade", b"h2c"), (b"content-length", b"4")], b"", 400),
        ([(b"upgrade", b"websocket"), (b"transfer-encoding", b"chunked")], b"", 400),
        ([(b"upgrade", b"h2c"), (b"content-length", b"4")], b"body", 200),
        ([(b"upgrade", b"h2c"), (b"content-length", b"0")], b"", 200),
        ([(b"transfer-encoding", b"chunked")], b"", 200),
    ],
)
async def test_a_body_that_an_upgrade_lost_is_missed(
    headers: list[tuple[bytes, bytes]], body: bytes, status: int
) -> None:
    sent = await limited(Reader(1), client(body)[0], scope(*headers))
    assert sent[0]["status"] == status
    assert (b"without this header" in sent[1].get("body", b"")) == (status == 400)
    assert ((b"connection", b"close") in sent[0]["headers"]) == (status == 400)


async def test_a_client_that_disconnects_early_is_seen_by_the_handler() -> None:
    async def receive() -> Message:
        return {"type": "http.disconnect"}

    body = await read_body(receive)
    assert (body.raw, body.data) == (b"", None)
    replay = body.replay()
    assert [(await replay())["type"] for _ in range(2)] == ["http.request", "http.disconnect"]


async def test_a_replaced_body_has_its_own_length() -> None:
    before = scope((b"Content-Length", b"999"), (b"accept", b"*/*"))
    after, body = (await read_body(client(b"{}")[0])).replaced(before, {"model": "m"})
    assert body.raw == b'{"model": "m"}'
    assert Headers(scope=after).items() == [("accept", "*/*"), ("content-length", str(len(body.raw)))]
    assert len(before["headers"]) == 2


async def tracked(*messages: Message) -> DisconnectTracker:
    """The tracker of an exchange in which the client and the server sent these messages, one after the other."""
    sent: list[Message] = []
    incoming = iter([one for one in messages if not one["type"].startswith("http.response")])

    async def receive() -> Message:
        return next(incoming)

    async def send(message: Message) -> None:
        sent.append(message)

    tracker = DisconnectTracker(receive, send)
    for message in messages:
        if message["type"].startswith("http.response"):
            await tracker.send(message)
        else:
            assert await tracker.receive() == message
    assert sent == [one for one in messages if one["type"].startswith("http.response")]
    return tracker


REQUEST = {"type": "http.request", "body": b"{}"}
DISCONNECT = {"type": "http.disconnect"}
MORE = {"type": "http.response.body", "body": b"a", "more_body": True}
LAST = {"type": "http.response.body", "body": b"b"}


def start(status: int) -> Message:
    return {"type": "http.response.start", "status": status, "headers": []}


@pytest.mark.parametrize(
    ("messages", "is_answered"),
    [
        ((REQUEST, start(200), LAST), True),
        ((REQUEST, start(200), MORE, LAST), True),
        ((REQUEST, start(200), LAST, DISCONNECT), True),
        ((REQUEST, start(200), MORE), False),
        ((REQUEST, start(200), MORE, DISCONNECT, LAST), False),
        ((REQUEST, DISCONNECT, start(200), LAST), False),
        ((REQUEST, start(400), LAST), False),
        ((REQUEST,), False),
    ],
)
async def test_whether_a_request_was_answered(messages: tuple[Message, ...], is_answered: bool) -> None:
    assert (await tracked(*messages)).is_answered is is_answered
