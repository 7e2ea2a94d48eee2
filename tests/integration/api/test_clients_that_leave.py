"""A client that disconnects, at every stage of its answer: nothing of its request goes on or is retained."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.integration.polling import running, until
from tests.processes.forkpoint_server import Server

LONG: dict[str, Any] = {"max_tokens": 1500, "ignore_eos": True}
VOTE: dict[str, Any] = {
    "rules": [{"when": {"entropy_above": "fork"}, "do": {"branch": {"max_branches": 4, "select": "majority"}}}]
}
Stage = Callable[[Server, socket.socket, str], None]


def at_once(server: Server, client: socket.socket, name: str) -> None:
    """At once, before the first token."""


def as_it_waits(server: Server, client: socket.socket, name: str) -> None:
    """In the engine, before the first token reaches the client."""
    until(lambda: running(server))


def at_the_first_token(server: Server, client: socket.socket, name: str) -> None:
    assert b"data: {" in read(client, b"data: {")


def in_its_branches(server: Server, client: socket.socket, name: str) -> None:
    """Once two branches have sent tokens."""
    read(client, b'"index":2')


def during_the_vote(server: Server, client: socket.socket, name: str) -> None:
    """Once one of those that will be chosen from has ended, and while another one runs."""
    until(lambda: running(server))  # before, the server does not know the request
    ended, started = set[int](), set[int]()
    with httpx.stream("GET", f"{server.api}/forks/{name}", params={"stream": True}, timeout=60) as stream:
        stream.raise_for_status()
        for line in stream.iter_lines():
            if line.startswith("data: {") and (tree := json.loads(line[6:]).get("tree")):
                started |= {node["index"] for node in tree["nodes"]}
                ended |= {node["index"] for node in tree["nodes"] if node["ended"] in ("stop", "length")}
                if ended and started - ended:
                    return
    pytest.fail("all answers ended at once")


def as_it_ends(server: Server, client: socket.socket, name: str) -> None:
    """Once the last token was sent, and before the `forkpoint` object."""
    read(client, b'"finish_reason":"length"')


STAGES: dict[str, tuple[Stage, dict[str, Any]]] = {
    "before anything": (at_once, {"policy": "branch-at-forks", "n": 4, **LONG}),
    "before the first token": (as_it_waits, {"policy": "nowait", "n": 3, **LONG}),
    "at the first token": (at_the_first_token, {"policy": "nowait", **LONG}),
    "in the middle of several": (at_the_first_token, {"policy": "observe", "n": 3, **LONG}),
    "in its branches": (in_its_branches, {"policy": "branch-at-forks", "n": 4, **LONG}),
    "while it probes": (at_the_first_token, {"policy": "deer", **LONG}),
    "during the vote": (during_the_vote, {"policy": VOTE, "max_tokens": 1500}),
    "as it ends": (as_it_ends, {"policy": "nowait", "max_tokens": 5, "ignore_eos": True}),
}


@pytest.mark.parametrize("when", STAGES)
def test_a_client_that_leaves(server: Server, when: str) -> None:
    until(lambda: not running(server))
    stage, options = STAGES[when]
    name = f"leaves-{when.replace(' ', '-')}"
    messages = [{"role": "user", "content": "Use 8, 1, 9, 25 to make 66."}]
    content = json.dumps({"model": "countdown", "messages": messages, "stream": True, "seed": 2, **options}).encode()
    address = httpx.URL(server.url)
    with socket.create_connection((address.host, address.port or 80), timeout=60) as client:
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nX-Request-Id: {name}\r\n"
        head += "Content-Type: application/json\r\n"
        client.sendall(f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content)
        stage(server, client, f"chatcmpl-{name}")
    until(lambda: not running(server))
    if when != "as it ends":
        assert httpx.get(f"{server.api}/forks/chatcmpl-{name}").status_code == 404


def test_room_for_branches_is_released(server: Server) -> None:
    """After all that: a tree gets as many answers as ever."""
    body = {
        "model": "countdown",
        "prompt": "Use 8, 1, 9, 25 to make 66.",
        "policy": "branch-at-forks",
        "n": 8,
        "max_tokens": 200,
        "seed": 3,
    }
    answer = httpx.post(f"{server.api}/completions", json=body, timeout=120).raise_for_status().json()
    assert len(answer["choices"]) == 8


def read(client: socket.socket, wanted: bytes) -> bytes:
    """What comes, until this is in it."""
    whole = b""
    while wanted not in whole:
        part = client.recv(1 << 16)
        assert part, whole[-2000:]
        whole += part
    return whole
