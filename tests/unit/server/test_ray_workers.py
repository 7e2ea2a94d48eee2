"""Workers under Ray are compared with the server before they load the model."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from contextlib import closing
from types import SimpleNamespace
from typing import Any

import pytest

from forkpoint_policies.worker import identity
from forkpoint_policies.worker.last_layer import EXTENSION, StateReading
from forkpoint_policies.worker.meeting import MEETING, compare_with_server, receive, send
from forkpoint_server.ray_workers import COPIED, RayWorkers, await_ray_workers

HOST = "127.0.0.1"


@pytest.fixture(autouse=True)
def no_meeting(monkeypatch: pytest.MonkeyPatch) -> None:
    """What `await_ray_workers` sets goes with the test."""
    for name in (MEETING, COPIED):
        monkeypatch.setenv(name, "")


def connect(workers: RayWorkers) -> socket.socket:
    return socket.create_connection((HOST, int(workers.address.rpartition(":")[2])), 5)


def wait_for(condition: Callable[[], bool]) -> None:
    for _ in range(200):
        if condition():
            return
        time.sleep(0.05)
    raise TimeoutError


def is_closed(workers: RayWorkers) -> bool:
    try:
        connect(workers).close()
    except ConnectionRefusedError:
        return True
    return False


def test_all_come_and_the_port_is_free_again() -> None:
    """Also beside a connection that says nothing, and one of another program."""
    workers = RayWorkers(HOST, 2)
    with closing(connect(workers)), closing(connect(workers)) as scanner:
        scanner.sendall(b"GET / HTTP/1.1\r\n\r\n")
        for rank in (1, 0):
            compare_with_server(workers.address, rank)
        wait_for(lambda: is_closed(workers))
    assert workers.problem() == ""


def test_one_that_differs() -> None:
    workers = RayWorkers(HOST, 2)
    with closing(connect(workers)) as other:
        said = receive(other)
        send(other, {"rank": 0, "count": 1, "problem": "Forkpoint differs on host2: version 9.9 there"})
        wait_for(lambda: workers.problem() == "Forkpoint differs on host2: version 9.9 there")
    assert said == {"version": identity.own_version(), "channel": "", "telemetry": None}


def test_a_worker_of_another_version_does_not_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    """As vLLM makes it: with the extension as the last base of its worker's class."""
    workers, ranks_that_started = RayWorkers(HOST, 4), []
    monkeypatch.setenv(MEETING, workers.address)

    class Worker:
        def __init__(self, vllm_config: Any, rank: int) -> None:
            ranks_that_started.append(rank)

    class Extended(Worker, StateReading):
        pass

    parallel = SimpleNamespace(world_size=2, data_parallel_rank=1)
    config = SimpleNamespace(parallel_config=parallel)
    Extended(vllm_config=config, rank=0)
    assert ranks_that_started == [0]
    wait_for(lambda: workers.problem().startswith(f"3 of 4 workers did not come to {workers.address} before"))
    server = identity.own_version()
    monkeypatch.setattr(identity, "own_version", lambda: "9.9")
    with pytest.raises(RuntimeError, match=rf"Forkpoint differs on .*: version 9\.9 there, {server} on the server;"):
        Extended(vllm_config=config, rank=1)
    assert ranks_that_started == [0]
    wait_for(lambda: f"version 9.9 there, {server} on the server" in workers.problem())


def test_no_route_to_the_server() -> None:
    with pytest.raises(RuntimeError, match=rf"no route from .* to {HOST}, where .* refused.*--telemetry-host"):
        compare_with_server(f"{HOST}:1", 0)


def config(**parallel: Any) -> Any:
    fields = {
        "world_size": 2, "use_ray": True, "enable_elastic_ep": False, "local_engines_only": False,
        "data_parallel_backend": "mp", "data_parallel_size": 3, "data_parallel_size_local": 1,
    }  # fmt: skip
    return SimpleNamespace(parallel_config=SimpleNamespace(**fields | parallel))


@pytest.mark.parametrize(
    ("parallel", "expected"), [({}, 2), ({"data_parallel_backend": "ray", "use_ray": False}, 6),
                               ({"data_parallel_backend": "ray", "local_engines_only": True}, 2)],
)  # fmt: skip
def test_how_many_are_awaited(parallel: dict[str, Any], expected: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(COPIED, "OTHER")
    workers = await_ray_workers(config(**parallel), EXTENSION, HOST)
    assert workers is not None
    assert os.environ[MEETING] == workers.address
    assert os.environ[COPIED] == f"OTHER,{MEETING}"
    for rank in range(expected):
        assert not is_closed(workers)
        compare_with_server(workers.address, rank)
    wait_for(lambda: is_closed(workers))


@pytest.mark.parametrize(
    ("parallel", "extension", "host"),
    [({"use_ray": False}, EXTENSION, HOST), ({"enable_elastic_ep": True}, EXTENSION, HOST), ({}, "theirs.Own", HOST),
     ({}, EXTENSION, "")],
)  # fmt: skip
def test_none_is_awaited(parallel: dict[str, Any], extension: str, host: str) -> None:
    assert await_ray_workers(config(**parallel), extension, host) is None
    assert not os.environ[MEETING]
