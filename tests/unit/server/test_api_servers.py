"""Several API servers: what each of them gets, where the others ask it, and what they cannot do."""

from __future__ import annotations

import logging
import socket
from argparse import Namespace
from pathlib import Path

import pytest
from vllm.v1.engine.exceptions import EngineDeadError

from forkpoint_server.api_servers import ApiServer, OwnPort, bind_own_ports, check_api_servers, share
from forkpoint_server.cli import own_ports
from forkpoint_server.replicas.address import UNKNOWN
from forkpoint_server.server_log import says_that_the_engine_ended
from forkpoint_server.shutdown import drain_of_one
from forkpoint_server.store.database import open_database

TWO = Namespace(
    api_server_count=2, headless=False, enable_elastic_ep=False, uds=None, host="127.0.0.1", ssl_certfile=None,
    replica_address="",
)  # fmt: skip


def two(**others: object) -> Namespace:
    return Namespace(**{**vars(TWO), **others})


def own_ip() -> str:
    return "10.0.0.5"


def close(ports: list[OwnPort]) -> list[str]:
    """The addresses of ports that are given up."""
    for port in ports:
        port.sock.close()
    return [port.address for port in ports]


@pytest.mark.parametrize(
    ("limit", "count", "own"), [(128, 2, 64), (7, 2, 3), (1, 4, 1), (0, 4, 0), (2_000_000, 8, 250_000)]
)
def test_limits_are_divided(limit: int, count: int, own: int) -> None:
    assert share(limit, count) == own


def test_what_a_process_takes_from_vllms_launcher() -> None:
    loads = [0, 3]
    config = {"client_count": 2, "client_index": 1, "api_server_loads": loads, "a": "b"}
    with socket.socket() as sock:
        ports = [OwnPort(sock, f"http://127.0.0.1:{number}", f"key {number}") for number in range(2)]
        one = ApiServer("http://here", sock, config, drain_of_one(), ports)
        assert (one.count, one.number, one.peer_loads) == (2, 1, (loads, 1))
        assert one.engine_config == {"client_count": 2, "client_index": 1, "a": "b"}
        assert one.own_port is ports[1]
        assert one.sibling_keys == {"key 0"}
        pooling = ApiServer("", sock, {"client_count": 1, "client_index": 0}, drain_of_one())
        assert (pooling.peer_loads, pooling.own_port, pooling.sibling_keys) == (None, None, frozenset())


def test_each_has_a_free_port() -> None:
    ports = bind_own_ports(TWO, own_ip)
    numbers = [port.sock.getsockname()[1] for port in ports]
    assert len(set(numbers)) == len({port.key for port in ports}) == 2
    assert close(ports) == [f"http://127.0.0.1:{number}" for number in numbers]


@pytest.mark.parametrize(
    ("arguments", "host"),
    [
        ({"host": None}, "http://10.0.0.5"),
        ({"host": None, "ssl_certfile": "cert.pem"}, "https://10.0.0.5"),
        ({"host": "::1"}, "http://[::1]"),
        ({"host": None, "uds": "/run/socket", "replica_address": "pod-1"}, "http://pod-1"),
        ({"replica_address": "https://pod-1.example.org"}, "https://pod-1.example.org"),
    ],
)
def test_the_host_is_that_of_a_single_server(arguments: dict[str, object], host: str) -> None:
    ports = bind_own_ports(two(**arguments), own_ip)
    numbers = [port.sock.getsockname()[1] for port in ports]
    assert close(ports) == [f"{host}:{number}" for number in numbers]


def test_without_an_address_they_still_reach_each_other(caplog: pytest.LogCaptureFixture) -> None:
    addresses = close(bind_own_ports(two(host=None), lambda: UNKNOWN))
    assert all(address.startswith("http://127.0.0.1:") for address in addresses)
    assert "set --replica-address" in caplog.text


def test_a_port_that_is_named_is_the_first_of_them() -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        free = probe.getsockname()[1]
        taken = two(replica_address=f"pod-1:{free - 1}")
        with pytest.raises(ValueError, match=f"--replica-address: port {free} cannot be listened on .*2 API servers"):
            bind_own_ports(taken, own_ip)
    assert close(bind_own_ports(two(replica_address=f"pod-1:{free}", api_server_count=1), own_ip)) == [
        f"http://pod-1:{free}"
    ]
    with pytest.raises(ValueError, match="--replica-address: port 65536 cannot be listened on"):
        bind_own_ports(two(replica_address="pod-1:65535"), own_ip)


def test_they_need_a_postgresql(tmp_path: Path) -> None:
    database = open_database(f"sqlite:///{tmp_path / 'store.sqlite3'}")
    with pytest.raises(ValueError, match=r"--api-server-count: .* through a PostgreSQL; name it with --database-url"):
        own_ports(TWO, database)
    database.dispose()
    assert own_ports(TWO, None) == []  # a model that generates nothing has no traces


@pytest.mark.parametrize("value", ["1", "true", "True"])
def test_adapters_that_come_at_run_time_need_one_process(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    check_api_servers(TWO)
    monkeypatch.setenv("VLLM_ALLOW_RUNTIME_LORA_UPDATING", value)
    check_api_servers(two(api_server_count=1))
    with pytest.raises(ValueError, match="--api-server-count: an adapter that is loaded at run time"):
        check_api_servers(TWO)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"headless": True}, "a --headless node serves no requests"),
        ({"api_server_count": -1}, "must be 1 or more, not -1"),
        ({"enable_elastic_ep": True}, "--enable-elastic-ep works with one API server"),
        ({"uds": "/run/socket"}, "with --uds, name in --replica-address"),
    ],
)
def test_what_they_cannot_do(arguments: dict[str, object], problem: str) -> None:
    with pytest.raises(ValueError, match=f"--api-server-count: {problem}"):
        check_api_servers(two(**arguments))


def test_the_end_of_the_engine_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    """vLLM's own exception, and another one, logged as vLLM does."""
    client = logging.getLogger("a client of the engine")
    client.addFilter(says_that_the_engine_ended)
    for error in (EngineDeadError(), ValueError("another")):
        try:
            raise error
        except (EngineDeadError, ValueError):
            client.exception("failed")
    ended, failed = caplog.records
    assert (ended.getMessage(), ended.levelname, ended.exc_info) == ("the engine has ended", "INFO", None)
    assert (failed.getMessage(), failed.levelname) == ("failed", "ERROR")
    assert failed.exc_info is not None
