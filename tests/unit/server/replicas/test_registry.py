"""Servers that know each other through a real PostgreSQL."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator, Sequence

import pytest
from sqlalchemy import Engine, select, update

from forkpoint_server.replicas import registry
from forkpoint_server.replicas.registry import Replicas
from forkpoint_server.store import servers
from forkpoint_server.store.database import open_database
from forkpoint_server.store.servers import FORGET_SECONDS, NOW, KnownServer, OwnServer, heartbeat, leave
from forkpoint_server.store.tables import SERVERS
from tests.processes.postgresql import PostgreSQL

from .cluster import until


@pytest.fixture(scope="module")
def one_database(postgresql_server: PostgreSQL) -> Iterator[Engine]:
    database = open_database(postgresql_server.new_database())
    yield database
    database.dispose()


@pytest.fixture
def shared(one_database: Engine) -> Engine:
    """A database without servers."""
    with one_database.begin() as connection:
        connection.execute(SERVERS.delete())
    return one_database


def own(name: str) -> OwnServer:
    return OwnServer(name * 12, f"http://{name}:8000", name * 64, "countdown", "0.2.0")


async def test_each_knows_the_others_and_how_they_ended(shared: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = Replicas(shared, own("a"), 0.05), Replicas(shared, own("b"), 0.05)
    await first.start()
    assert first.others == []
    await second.start()
    await until(lambda: len(first.living) == 1)
    assert [server.address for server in second.living] == ["http://a:8000"]
    await second.stop()
    await until(lambda: not first.living)
    (stopped,) = first.others
    assert stopped.end.startswith("was stopped at 20")

    monkeypatch.setattr(servers, "SILENT_SECONDS", 0.5)
    third = Replicas(shared, own("c"), 60.0)  # registers, and is silent from then on
    await third.start()
    await until(lambda: any(server.id == "c" * 12 and not server.is_living for server in first.others))
    silent = next(server for server in first.others if server.id == "c" * 12)
    assert silent.end.startswith("has been silent since 20")
    assert not first.living
    await first.stop()
    await third.stop()


async def test_a_search_finds_who_has_started_since_the_last_heartbeat(
    shared: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = Replicas(shared, own("a"), 60), Replicas(shared, own("b"), 60)
    await first.start()
    await second.start()
    assert first.named_in(f"cmpl-{second.own.id}1") is None
    reads = 0

    def counted(database: Engine, server: OwnServer) -> Sequence[KnownServer]:
        nonlocal reads
        reads += 1
        return heartbeat(database, server)

    monkeypatch.setattr(registry, "heartbeat", counted)
    began = time.monotonic()
    await asyncio.gather(*(first.look_again() for _ in range(50)))
    found = first.named_in(f"cmpl-{second.own.id}1")
    assert found is not None
    assert found.address == "http://b:8000"
    assert reads == 1, "those that search at once share one look"
    for _ in range(2):
        await first.look_again()
    assert reads == 3
    assert time.monotonic() - began >= 2 * registry.LOOK_SECONDS
    await first.stop()
    await second.stop()


async def test_a_search_does_not_wait_for_a_database_that_hangs(
    shared: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = Replicas(shared, own("a"), 60), Replicas(shared, own("b"), 60)
    await second.start()
    await first.start()
    release = threading.Event()

    def hanging(database: Engine, server: OwnServer) -> Sequence[KnownServer]:
        release.wait(30)
        return heartbeat(database, server)

    monkeypatch.setattr(registry, "heartbeat", hanging)
    monkeypatch.setattr(registry, "MAX_LOOK_SECONDS", 0.3)
    began = time.monotonic()
    await first.look_again()
    assert time.monotonic() - began < 10
    assert [server.address for server in first.living] == ["http://b:8000"]
    release.set()
    await first.stop()
    await second.stop()


async def test_siblings_know_each_other_once_they_have_started(shared: Engine) -> None:
    first = Replicas(shared, own("a"), 60, sibling_keys=frozenset({own("b").key}))
    second = Replicas(shared, own("b"), 60, sibling_keys=frozenset({own("a").key}))
    starting = asyncio.create_task(first.start())
    done, _ = await asyncio.wait([starting], timeout=0.5)
    assert not done  # it waits for the second
    await second.start()
    await asyncio.wait_for(starting, 5)
    assert [server.id for server in first.living] == [second.own.id]
    assert [server.id for server in second.living] == [first.own.id]
    await first.stop()
    await second.stop()


async def test_an_id_names_its_server_where_there_are_others(shared: Engine) -> None:
    first, second = Replicas(shared, own("a"), 0.05), Replicas(shared, own("b"), 0.05)
    await first.start()
    assert first.new_request_id() is None
    await second.start()
    made = second.new_request_id()
    assert made is not None
    assert made.startswith("b" * 12)
    await until(lambda: bool(first.others))
    named = first.named_in(f"chatcmpl-{made}")
    assert named is not None
    assert named.address == "http://b:8000"
    assert first.named_in("chatcmpl-0123456789abcdef") is None
    await first.stop()
    await second.stop()


async def test_without_a_database_the_others_stay_as_they_were(shared: Engine) -> None:
    first, second = Replicas(shared, own("a"), 0.05), Replicas(shared, own("b"), 60)
    await second.start()
    await first.start()
    with shared.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE servers RENAME TO elsewhere")
    await asyncio.sleep(0.3)
    assert [server.id for server in first.living] == ["b" * 12]
    with shared.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE elsewhere RENAME TO servers")
        connection.execute(update(SERVERS).where(SERVERS.c.id == "b" * 12).values(stopped=NOW))
    await until(lambda: not first.living)
    await first.stop()
    await second.stop()


def test_servers_that_ended_long_ago_are_forgotten(shared: Engine) -> None:
    heartbeat(shared, own("a"))
    with shared.begin() as connection:
        connection.execute(update(SERVERS).values(heartbeat=NOW - FORGET_SECONDS - 10))
    assert heartbeat(shared, own("b")) == []
    with shared.connect() as connection:
        assert connection.execute(select(SERVERS.c.id)).scalars().all() == ["b" * 12]


def test_a_server_that_was_forgotten_comes_back(shared: Engine) -> None:
    heartbeat(shared, own("a"))
    with shared.begin() as connection:
        connection.execute(SERVERS.delete())
    heartbeat(shared, own("a"))
    assert [server.id for server in heartbeat(shared, own("b"))] == ["a" * 12]


def test_a_heartbeat_that_comes_last_does_not_revive_a_server_that_stopped(shared: Engine) -> None:
    heartbeat(shared, own("a"))
    leave(shared, own("a").id)
    heartbeat(shared, own("a"))  # its thread was still running when the server stopped
    (stopped,) = heartbeat(shared, own("b"))
    assert not stopped.is_living
    assert stopped.end.startswith("was stopped at 20")
