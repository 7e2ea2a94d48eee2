"""What a process of the model and the server say to each other, over TCP, before the model is loaded.

The server says which Forkpoint it runs and where it takes records; the other one answers whether it can work with that.
Nodes do so before they start (`forkpoint_server.nodes`), workers that Ray starts when vLLM makes them.
"""

from __future__ import annotations

import socket
from dataclasses import asdict, dataclass
from typing import Any

import msgspec

from .identity import difference, own_channel, own_version

MEETING = "FORKPOINT_MEETING"
"""The environment variable that names to workers under Ray where the server awaits them, as HOST:PORT."""
ANSWER_SECONDS, ROUTE_SECONDS = 15.0, 5.0
MAX_LINE = 4096


@dataclass(frozen=True)
class Answer:
    """What a process says of itself: its rank, how many of the awaited it stands for, and why it cannot work."""

    rank: int
    count: int
    problem: str


def greeting(telemetry: tuple[str, int] | None) -> dict[str, Any]:
    """What the server says; `telemetry` is an address to which there must be a route, besides the one of this talk."""
    return {"version": own_version(), "channel": own_channel(), "telemetry": telemetry}


def greet(connection: socket.socket, said: dict[str, Any]) -> Answer:
    """On the server: say this, and hear the answer. Raises OSError, ValueError, KeyError and TypeError."""
    send(connection, said)
    answer = receive(connection)
    return Answer(int(answer["rank"]), int(answer["count"]), str(answer["problem"]))


def reply(connection: socket.socket, said: dict[str, Any], rank: int, count: int) -> str:
    """Answer what the server said; empty, or why this process cannot work with it. Raises OSError."""
    problem = difference(str(said["version"]), str(said["channel"]))
    if not problem and said["telemetry"] is not None:
        host, port = said["telemetry"]
        problem = _no_route(str(host), int(port))
    send(connection, asdict(Answer(rank, count, problem)))
    return problem


def compare_with_server(address: str, rank: int) -> None:
    """In a worker: compare it with the server that awaits it at this address, HOST:PORT.

    Raises RuntimeError, in one line, where they cannot work together.
    """
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), ANSWER_SECONDS) as connection:
            problem = reply(connection, receive(connection), rank, 1)
    except OSError as error:
        problem = _describe_no_route(host, error)
    if problem:
        raise RuntimeError(problem)


def family(host: str) -> socket.AddressFamily:
    """Of an address in digits."""
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def send(connection: socket.socket, message: dict[str, Any]) -> None:
    """Send one line of JSON. Raises OSError."""
    connection.sendall(msgspec.json.encode(message) + b"\n")


def receive(connection: socket.socket) -> dict[str, Any]:
    """One line of JSON, an object. Raises OSError, TimeoutError among them, and ValueError."""
    with connection.makefile("rb") as lines:
        line = lines.readline(MAX_LINE)
    if not line:
        raise ConnectionResetError("the connection was closed")
    return msgspec.json.decode(line, type=dict[str, Any])


def _no_route(host: str, port: int) -> str:
    """Why this process could not report to that address; empty if it can."""
    try:
        socket.create_connection((host, port), ROUTE_SECONDS).close()
    except OSError as error:
        return _describe_no_route(host, error)
    return ""


def _describe_no_route(host: str, error: OSError) -> str:
    return (
        f"no route from {socket.gethostname()} to {host}, where the server takes records ({error}); name in "
        "--telemetry-host an address of the server's machine that all others reach, at any port"
    )
