"""The nodes of a model compare themselves before any loads it."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from types import SimpleNamespace
from typing import Any

import pytest

from forkpoint_policies.worker.identity import own_version
from forkpoint_server.nodes import Meeting, await_others, join, meeting_of

HOST = "127.0.0.1"
SECONDS = 20.0


def config(**parallel: Any) -> Any:
    fields = {
        "nnodes": 1, "node_rank": 0, "master_addr": "10.0.0.1", "master_port": 29501, "data_parallel_size": 1,
        "data_parallel_size_local": 1, "data_parallel_rank": 0, "data_parallel_master_ip": "10.0.0.2",
        "data_parallel_rpc_port": 29550, "data_parallel_backend": "mp", "local_engines_only": False,
    }  # fmt: skip
    return SimpleNamespace(parallel_config=SimpleNamespace(**fields | parallel))


@pytest.mark.parametrize(
    ("parallel", "meeting"),
    [
        ({}, None),
        ({"nnodes": 3, "node_rank": 2}, Meeting("10.0.0.1", 29501, 2, 2, 1)),
        ({"data_parallel_size": 4, "data_parallel_rank": 1}, Meeting("10.0.0.2", 29550, 3, 1, 1)),
        ({"data_parallel_size": 4, "data_parallel_size_local": 4}, None),
        ({"data_parallel_size": 4, "local_engines_only": True}, None),
        ({"data_parallel_size": 4, "data_parallel_backend": "ray"}, None),
        ({"data_parallel_size": 2, "nnodes": 2, "node_rank": 1}, Meeting("10.0.0.1", 29501, 1, 1, 1)),
        ({"data_parallel_size": 2, "nnodes": 4, "local_engines_only": True}, Meeting("10.0.0.1", 29501, 3, 0, 1)),
    ],
)
def test_where_nodes_meet(parallel: dict[str, Any], meeting: Meeting | None) -> None:
    assert meeting_of(config(**parallel)) == meeting


@pytest.fixture
def port() -> int:
    with socket.create_server((HOST, 0)) as one:
        return int(one.getsockname()[1])


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as threads:
        yield threads


def first_node(pool: ThreadPoolExecutor, port: int, others: int, telemetry_host: str = HOST) -> Future[None]:
    return pool.submit(await_others, Meeting(HOST, port, others, 0, 1), telemetry_host)


def other_node(pool: ThreadPoolExecutor, port: int, rank: int, count: int = 1) -> Future[None]:
    return pool.submit(join, Meeting(HOST, port, 0, rank, count), SECONDS)


def stranger(port: int) -> socket.socket:
    """A connection to the first node, once it listens."""
    for _ in range(200):
        try:
            return socket.create_connection((HOST, port), 5)
        except ConnectionRefusedError:
            time.sleep(0.05)
    raise TimeoutError("the first node does not listen")


def test_all_go_on_together_and_leave_the_port_free(pool: ThreadPoolExecutor, port: int) -> None:
    """Whichever is first, and whoever else connects."""
    early = other_node(pool, port, 1)
    first = first_node(pool, port, 3)
    with closing(stranger(port)) as one:
        one.sendall(b"GET / HTTP/1.1\r\n\r\n")
    gone = stranger(port)
    with gone, gone.makefile("rb") as lines:
        assert json.loads(lines.readline())["version"] == own_version()
        gone.sendall(json.dumps({"rank": 2, "count": 2, "problem": ""}).encode() + b"\n")
    with pytest.raises(TimeoutError):
        early.result(0.3)
    late = other_node(pool, port, 2, 2)
    for one_node in (first, early, late):
        one_node.result(SECONDS)
    socket.create_server((HOST, port)).close()


def test_no_route_is_needed_where_each_node_has_its_own_server(pool: ThreadPoolExecutor, port: int) -> None:
    first = first_node(pool, port, 1, "")
    other_node(pool, port, 1).result(SECONDS)
    first.result(SECONDS)


def test_one_that_differs_ends_all(pool: ThreadPoolExecutor, port: int) -> None:
    problem = "Forkpoint differs on host3: version 9.9 there"
    first = first_node(pool, port, 3)
    with stranger(port) as same, same.makefile("rb") as lines, closing(stranger(port)) as other:
        same.sendall(json.dumps({"rank": 1, "count": 1, "problem": ""}).encode() + b"\n")
        other.sendall(json.dumps({"rank": 2, "count": 1, "problem": problem}).encode() + b"\n")
        with pytest.raises(ValueError, match=f"^{problem}$"):
            first.result(SECONDS)
        assert [json.loads(line) for line in lines][1:] == [{"problem": problem}]


@pytest.mark.parametrize(
    ("greeting", "says"),
    [
        ({"version": "9.9"}, r"Forkpoint differs on .*: version .* there, 9\.9 on the server; install the same"),
        ({"channel": "another"}, "FORKPOINT_TELEMETRY_KEY is set on the server and not there; set the same"),
        ({"telemetry": [HOST, 1]}, rf"no route from .* to {HOST}, where the server takes records .*--telemetry-host"),
    ],
)
def test_a_node_says_what_differs(greeting: dict[str, Any], says: str, pool: ThreadPoolExecutor, port: int) -> None:
    with socket.create_server((HOST, port)) as listener:
        listener.settimeout(SECONDS)
        node = other_node(pool, port, 1)
        connection, _ = listener.accept()
        same = {"version": own_version(), "channel": "", "telemetry": [HOST, port]}
        with connection, connection.makefile("rb") as lines:
            connection.sendall(json.dumps(same | greeting).encode() + b"\n")
            answer = json.loads(lines.readline())
            with pytest.raises(ValueError, match=says) as raised:
                node.result(SECONDS)
    assert answer == {"rank": 1, "count": 1, "problem": str(raised.value)}


def test_a_first_node_that_is_not_there(port: int) -> None:
    with pytest.raises(ValueError, match=rf"no first node answers at {HOST}:{port} \(.*refused.*; start `forkpoint"):
        join(Meeting(HOST, port, 0, 1, 1), 0.1)


def test_a_first_node_that_ends(pool: ThreadPoolExecutor, port: int) -> None:
    with socket.create_server((HOST, port)) as listener:
        listener.settimeout(SECONDS)
        node = other_node(pool, port, 1)
        connection, _ = listener.accept()
        with connection:
            greeting = {"version": own_version(), "channel": "", "telemetry": [HOST, port]}
            connection.sendall(json.dumps(greeting).encode() + b"\n")
            with connection.makefile("rb") as lines:
                lines.readline()
    with pytest.raises(ValueError, match=r"the first node, .*, ended before the model was loaded"):
        node.result(SECONDS)


def test_a_port_that_is_taken(port: int) -> None:
    with (
        socket.create_server((HOST, port)),
        pytest.raises(OSError, match=f"the other nodes cannot be awaited at {HOST}:{port} .*--master-port"),
    ):
        await_others(Meeting(HOST, port, 1, 0, 1), HOST)
