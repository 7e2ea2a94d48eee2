"""Where the other servers reach one, from what its operator says and from where it listens."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import pytest

from forkpoint_server.cli import own_replica_address
from forkpoint_server.replicas.address import UNKNOWN, Listening, replica_address
from forkpoint_server.store.database import open_database

ALL = Listening(None, 8000, None, tls=False)


def own_ip() -> str:
    return "10.1.2.3"


@pytest.mark.parametrize(
    ("named", "listening", "address"),
    [
        ("", ALL, "http://10.1.2.3:8000"),
        ("", Listening("0.0.0.0", 9000, None, tls=False), "http://10.1.2.3:9000"),
        ("", Listening("::", 8000, None, tls=False), "http://10.1.2.3:8000"),
        ("", Listening("127.0.0.1", 8000, None, tls=False), "http://127.0.0.1:8000"),
        ("", Listening("fd00::1", 8000, None, tls=True), "https://[fd00::1]:8000"),
        ("", Listening(None, 8000, "/run/forkpoint.sock", tls=False), None),
        ("pod-1.pods", Listening(None, 8000, "/run/forkpoint.sock", tls=False), "http://pod-1.pods:8000"),
        ("pod-1", ALL, "http://pod-1:8000"),
        ("pod-1:81", ALL, "http://pod-1:81"),
        ("fd00::7", ALL, "http://[fd00::7]:8000"),
        ("[fd00::7]:81", ALL, "http://[fd00::7]:81"),
        ("https://pod-1/", ALL, "https://pod-1:8000"),
    ],
)
def test_addresses(named: str, listening: Listening, address: str | None) -> None:
    assert replica_address(named, listening, own_ip) == address


def test_a_machine_that_does_not_know_its_address_has_none() -> None:
    assert replica_address("", ALL, lambda: UNKNOWN) is None


@pytest.mark.parametrize(
    "named",
    [
        "ftp://pod",
        "http://",
        "pod:port",
        "pod:70000",
        "http://me:secret@pod",
        "pod/path",
        "pod?x=1",
        "a b",
        "ü",
        "x" * 300,
    ],
)  # fmt: skip
def test_what_is_no_address_is_refused(named: str) -> None:
    with pytest.raises(ValueError, match=r"--replica-address: .* is not an address; write HOST, HOST:PORT or http"):
        replica_address(named, ALL, own_ip)


@pytest.mark.slow
def test_servers_of_sqlite_have_no_others(tmp_path: Path) -> None:
    args = Namespace(replica_address="", host=None, port=8000, uds=None, ssl_certfile=None)
    database = open_database(f"sqlite:///{tmp_path / 'x.sqlite3'}")
    assert own_replica_address(args, database) is None
    with pytest.raises(ValueError, match="--replica-address: servers find each other in a PostgreSQL; name it with"):
        own_replica_address(Namespace(**{**vars(args), "replica_address": "pod-1"}), database)
    database.dispose()
