"""`GET /v1/forks/{id}?stream=true`: a request's trace, live."""

from __future__ import annotations

import json
import threading
from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager
from typing import Any

import httpx

from tests.processes.forkpoint_server import Server

BODY = {
    "model": "countdown",
    "messages": [{"role": "user", "content": "Use 3, 7, 2, 5 to make 24."}],
    "stream": True,
    "seed": 1,
}
PATIENCE_SECONDS = 60


def events(response: httpx.Response) -> Iterator[dict[str, Any]]:
    for line in response.iter_lines():
        if line.startswith("data: {"):
            yield json.loads(line.removeprefix("data: "))


def generating(server: Server, **more: Any) -> AbstractContextManager[httpx.Response]:
    return httpx.stream(
        "POST", f"{server.api}/chat/completions", json={**BODY, "forks": True, **more}, timeout=PATIENCE_SECONDS
    )


def following(server: Server, response_id: str) -> Generator[dict[str, Any], None, None]:
    with httpx.stream("GET", f"{server.api}/forks/{response_id}?stream=true", timeout=PATIENCE_SECONDS) as stream:
        assert stream.raise_for_status().headers["content-type"].startswith("text/event-stream")
        yield from events(stream)


def test_live_events_add_up_to_the_trace(server: Server) -> None:
    received: list[dict[str, Any]] = []
    with httpx.stream(
        "POST", f"{server.api}/chat/completions", json={**BODY, "policy": "nowait", "forks": True}, timeout=60
    ) as stream:
        chunks = events(stream)
        response_id = next(chunks)["id"]
        listening = threading.Thread(target=lambda: received.extend(following(server, response_id)))
        listening.start()
        *_, last = chunks
        listening.join(PATIENCE_SECONDS)
    start, *deltas, trace = received
    assert start["policy"] == "nowait"
    assert trace == httpx.get(f"{server.api}/forks/{response_id}").json()
    assert len(deltas) > 2
    assert [token for one in deltas for token in one["choices"][0]["token_ids"]] == trace["choices"][0]["token_ids"]
    measured = {
        p: e
        for one in deltas
        for p, e in zip(one["choices"][0]["positions"], one["choices"][0]["entropies"], strict=True)
    }
    assert measured == dict(zip(trace["choices"][0]["positions"], trace["choices"][0]["entropies"], strict=True))
    assert [point for one in deltas for point in one["intervention_points"]] == trace["intervention_points"]
    assert last["forkpoint"]["interventions"]["suppress"]["effect"] > 0
    prompt = httpx.post(f"{server.url}/tokenize", json={"model": "countdown", "messages": BODY["messages"]}).json()[
        "tokens"
    ]
    assert trace["prompts"][0]["token_ids"] == prompt
    assert list(following(server, response_id)) == [trace]  # it has ended, so the trace comes at once


def test_a_listener_and_a_client_that_leave(server: Server) -> None:
    received: list[dict[str, Any]] = []
    first = threading.Event()

    def listen() -> None:
        for event in following(server, response_id):
            received.append(event)
            first.set()

    with generating(server, ignore_eos=True) as stream:
        chunks = events(stream)
        response_id = next(chunks)["id"]
        leaving = following(server, response_id)
        assert next(leaving)["object"] == "trace.begun"
        leaving.close()
        listening = threading.Thread(target=listen)
        listening.start()
        assert first.wait(PATIENCE_SECONDS)
        assert next(chunks)["id"] == response_id  # it goes on without its first listener
    listening.join(PATIENCE_SECONDS)
    assert not listening.is_alive()
    assert received[-1]["object"] == "trace"  # as far as it came
    assert 0 < len(received[-1]["choices"][0]["token_ids"]) < 2000


def test_an_unknown_id(server: Server) -> None:
    answer = httpx.get(f"{server.api}/forks/chatcmpl-none?stream=true")
    assert (answer.status_code, answer.json()["error"]["param"]) == (404, "request_id")


def test_a_trace_is_found_by_the_id_that_its_client_sent(server: Server) -> None:
    """With slashes and colons, and as gateways write it: percent-encoded, UUIDs in upper case."""
    uuid = "6f0c1a2b-3c4d-4e5f-8a9b-0c1d2e3f4a5b"
    body = {"model": "countdown", "messages": BODY["messages"], "max_tokens": 4, "forks": True}
    for sent, others in (
        ("tenant/a:1", ("tenant%2Fa%3A1", "tenant%252Fa%253A1", "chatcmpl-tenant/a:1")),
        (uuid, (uuid.upper(), f"chatcmpl-{uuid.upper()}")),
    ):
        answer = httpx.post(f"{server.api}/chat/completions", json=body, headers={"X-Request-Id": sent}, timeout=60)
        for name in (sent, *others, answer.raise_for_status().json()["id"]):
            found = httpx.get(f"{server.api}/forks/{name}")
            assert (found.status_code, found.json().get("id")) == (200, answer.json()["id"]), name
    last = httpx.post(f"{server.api}/completions", json={"model": "countdown", "prompt": "x", "max_tokens": 4,
        "forks": True}, headers={"X-Request-Id": uuid}, timeout=60).json()["id"]  # fmt: skip
    assert httpx.get(f"{server.api}/forks/{uuid}").json()["id"] == last, "the last request with the id"
    assert httpx.get(f"{server.api}/forks/chatcmpl-{uuid}").json()["id"] == f"chatcmpl-{uuid}"


def test_wrong_messages_by_the_thousand(server: Server) -> None:
    """The first error is enough; the other requests of the server do not wait for the rest."""
    user, text = {"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}
    for body, param in (
        ({"messages": [{}] * 100_000}, "messages"),
        ({"messages": [user, {**text, "content": [{}] * 100_000}]}, "messages"),
        ({"messages": [user, text], "tools": [{}] * 1000}, "tools[0].type"),
        ({"messages": [user, {**text, "content": [{}]}]}, "messages[1].content"),
        ({"prompt": ["x"] * 100_000, "completion": "y"}, "prompt"),
    ):
        answer = httpx.post(f"{server.api}/forks", json=body, timeout=60)
        assert answer.status_code == 400
        assert answer.json()["error"]["param"].startswith(param.split(".")[0])
        assert len(answer.json()["error"]["message"]) < 400
