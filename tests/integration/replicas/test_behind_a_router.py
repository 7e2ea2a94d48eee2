"""Servers that share a PostgreSQL behind a real HAProxy, under load: one is added, one drained, one killed."""

from __future__ import annotations

import json
import signal
import statistics
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import pytest
from sqlalchemy import create_engine, make_url, text

from forkpoint_server.store.servers import SILENT_SECONDS
from tests.integration.polling import until
from tests.processes.forkpoint_server import ONE_PROCESS, Server, serving
from tests.processes.haproxy import Router, routing
from tests.processes.postgresql import postgresql

pytestmark = pytest.mark.soak

EXPERIMENT: dict[str, Any] = {
    "name": "kept",
    "unit": "user",
    "arms": [{"name": "plain", "weight": 0.5}, {"name": "calm", "policy": "nowait", "weight": 0.5}],
}
MESSAGES = [{"role": "user", "content": "Use 3, 7, 2 to make 17."}]
CLIENTS, USERS = 4, 12
PHASE_SECONDS = 8.0
ARGUMENTS = ("--show-arms", "--shutdown-timeout", "60")


@dataclass
class Load:
    """Clients of the router. Each request is followed by its outcome and by a look at its trace."""

    url: str
    arms: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))  # by user
    answered: list[str] = field(default_factory=list)
    acknowledged: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    failures: list[tuple[float, str]] = field(default_factory=list)  # when, and what
    _ending: threading.Event = field(default_factory=threading.Event)

    def run(self, number: int) -> None:
        """Send requests until the end."""
        turn = 0
        with httpx.Client(base_url=self.url, timeout=60) as http:
            while not self._ending.is_set():
                turn += 1
                try:
                    self._one(http, f"user-{(number + CLIENTS * turn) % USERS}", f"{number}-{turn}", turn % 2 == 0)
                except (httpx.HTTPError, AssertionError) as error:
                    self.failures.append((time.monotonic(), f"{type(error).__name__}: {error}"))

    def _one(self, http: httpx.Client, user: str, name: str, streams: bool) -> None:
        body = {
            "model": "countdown", "messages": MESSAGES, "max_tokens": 40, "user": user, "stream": streams,
            "forks": True,
        }  # fmt: skip
        began = time.monotonic()
        with http.stream("POST", "/v1/chat/completions", json=body) as response:
            lines = list(response.iter_lines())
        assert response.status_code == 200, lines
        if streams:
            assert lines[-2] == "data: [DONE]", lines[-3:]
            lines = [next(line[6:] for line in lines if line.startswith("data: "))]
        request_id = json.loads("".join(lines))["id"]
        self.seconds.append(time.monotonic() - began)
        self.arms[user].add(response.headers["x-forkpoint-arm"])
        self.answered.append(request_id)
        trace = http.get(f"/v1/forks/{request_id}")  # of whichever server the router chooses
        assert trace.status_code == 200, trace.text
        assert trace.json()["id"] == request_id
        outcome = {"request_id": request_id, "metrics": {"correct": 1}}
        posted = http.post("/v1/experiments/kept/outcomes", json=outcome)
        assert posted.status_code == 200, posted.text
        self.acknowledged.append(request_id)

    def end(self) -> None:
        self._ending.set()


@dataclass(frozen=True)
class Cluster:
    """What the test uses, and how to start one more server."""

    router: Router
    database: str
    start: Callable[[str], Server]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with ExitStack() as stack, ExitStack() as servers:
        # not below pytest's folder: that is closed to PostgreSQL's user whenever another run of pytest starts
        folder = stack.enter_context(TemporaryDirectory(prefix="forkpoint-postgresql-"))
        database = stack.enter_context(postgresql(Path(folder) / "data")).new_database()
        router = stack.enter_context(routing(tmp_path))

        def start(name: str) -> Server:
            (tmp_path / name).mkdir()
            arguments = (*ARGUMENTS, "--database-url", database)
            return servers.enter_context(serving(tmp_path / name, *arguments, environment=ONE_PROCESS))

        yield Cluster(router, database, start)


def test_servers_come_and_go_under_load(cluster: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    router = cluster.router
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(cluster.start, ("first", "second"))
    for server in (first, second):
        router.add(server)
    until(lambda: httpx.get(f"{router.url}/health").status_code == 200)
    httpx.post(f"{router.url}/v1/experiments", json=EXPERIMENT, timeout=60).raise_for_status()
    until(lambda: all(_runs_here(server) for server in (first, second)))
    until(lambda: len(_servers(cluster.database)) == 2)
    time.sleep(6)  # one heartbeat: each knows the other

    load = Load(router.url)
    with ThreadPoolExecutor(CLIENTS) as pool:
        clients = [pool.submit(load.run, number) for number in range(CLIENTS)]
        try:
            # one is added
            third = cluster.start("third")
            router.add(third)
            until(lambda: _generated(third) > 0)
            time.sleep(PHASE_SECONDS)
            assert not load.failures, load.failures[:3]
            before = len(load.answered)

            # one is drained
            router.drain(second)
            until(lambda: _running(second) == 0)
            time.sleep(2)  # its clients look at their last traces
            second.process.send_signal(signal.SIGTERM)
            until(lambda: second.process.poll() is not None)
            assert second.process.returncode == 0
            time.sleep(PHASE_SECONDS)
            assert not load.failures, load.failures[:3]
            assert len(load.answered) > before

            # one is killed
            of_first = next(name for name in reversed(load.answered) if _id_of(cluster, first) in name)
            killed_at = time.monotonic()
            first.process.kill()
            time.sleep(PHASE_SECONDS)
        finally:
            load.end()
        for client in clients:
            client.result()

    # what failed: what ran on the killed server when it died, and looks at traces that were on it
    generating = [what for when, what in load.failures if "trace of" not in what]
    assert all(when > killed_at - 0.1 for when, what in load.failures if "trace of" not in what), load.failures
    assert len(generating) <= 2 * CLIENTS, generating
    assert any(_id_of(cluster, third) in name for name in load.answered[-CLIENTS:])

    # why a trace is gone
    until(lambda: httpx.get(f"{third.api}/forks/{of_first}").status_code == 404, 2 * SILENT_SECONDS + 10)
    message = httpx.get(f"{third.api}/forks/{of_first}").json()["error"]["message"]
    assert (
        f"is lost with its server: the server {_id_of(cluster, first)} at {first.url} has been silent since" in message
    )

    # nothing that was acknowledged is lost, and nobody changed arms
    assert set(load.acknowledged) <= _outcomes(cluster.database)
    figures = httpx.get(f"{router.url}/v1/experiments/kept", timeout=60).raise_for_status().json()["figures"]
    counted = sum(arm["metrics"].get("correct", {}).get("requests", 0) for arm in figures)
    assert counted == len(_outcomes(cluster.database))
    assert {len(arms) for arms in load.arms.values()} == {1}
    assert len(load.arms) == USERS
    quantiles = statistics.quantiles(load.seconds, n=100)
    with capsys.disabled():
        print(
            f"\n{len(load.answered)} requests, {len(load.acknowledged)} outcomes, {len(generating)} failed with the "
            f"killed server; p50 {quantiles[49]:.2f} s, p99 {quantiles[98]:.2f} s"
        )


def _runs_here(server: Server) -> bool:
    body = {"model": "countdown", "messages": MESSAGES, "max_tokens": 1, "user": "warm"}
    answer = httpx.post(f"{server.api}/chat/completions", json=body, timeout=60)
    return "x-forkpoint-arm" in answer.headers


def _generated(server: Server) -> float:
    return sum(value for name, value in server.metrics().items() if name.startswith("forkpoint_requests_total"))


def _running(server: Server) -> float:
    return sum(value for name, value in server.metrics().items() if name.startswith("vllm:num_requests_running"))


def _servers(database: str) -> dict[str, str]:
    """Their ids by their addresses."""
    return {row.address: row.id for row in _rows(database, "SELECT id, address FROM servers")}


def _id_of(cluster: Cluster, server: Server) -> str:
    return _servers(cluster.database)[server.url]


def _outcomes(database: str) -> set[str]:
    """The requests that have outcomes, by the ids of their responses."""
    query = (
        "SELECT coalesce(response_id, request_id) AS id FROM assignments JOIN outcomes USING (experiment, request_id)"
    )
    return {row.id for row in _rows(database, query)}


def _rows(database: str, query: str) -> list[Any]:
    engine = create_engine(make_url(database).set(drivername="postgresql+psycopg"))
    try:
        with engine.connect() as connection:
            return list(connection.execute(text(query)))
    finally:
        engine.dispose()
