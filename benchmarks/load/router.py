"""Small requests on one server, and on several that share a database behind a real HAProxy, in turns."""

from __future__ import annotations

import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import httpx

from benchmarks.servers import ServerProcess, forkpoints
from benchmarks.tables import Listing
from forkpoint_server.cli import DEMO_ARGUMENTS
from tests.processes.haproxy import Router, routing
from tests.processes.postgresql import postgresql

from .turns import Place, in_turns, table

HEALTHY_SECONDS = 30.0


def compare(count: int, concurrency: int, rounds: int, block_seconds: float) -> tuple[Listing, list[str]]:
    """One server, the same behind a router, and `count` behind a router; the table, and what was wrong with requests.

    The processor time of the router counts as its servers'.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        data = stack.enter_context(tempfile.TemporaryDirectory(prefix="forkpoint-postgresql-"))
        database = stack.enter_context(postgresql(Path(data) / "data"))
        alone, shared = database.new_database(), database.new_database()
        seqs = ("--max-num-seqs", str(2 * concurrency))
        arguments = [[*DEMO_ARGUMENTS, *seqs, "--database-url", url] for url in (alone, *[shared] * count)]
        one, *several = stack.enter_context(forkpoints(folder, arguments))
        places = [Place("one server", one.url, [one])]
        for name, servers in (("one server behind HAProxy", [one]), (f"{count} servers behind HAProxy", several)):
            own = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            router = stack.enter_context(routing(own))
            places.append(_behind(router, name, servers))
        turns = in_turns(places, concurrency, rounds, block_seconds)
    return table(turns, "router", "requests go to"), turns.problems()


def _behind(router: Router, name: str, servers: list[ServerProcess]) -> Place:
    for server in servers:
        router.add(server)
    deadline = time.monotonic() + HEALTHY_SECONDS
    while httpx.get(f"{router.url}/health").status_code != 200:
        if time.monotonic() > deadline:
            raise RuntimeError(f"{name} is not healthy after {HEALTHY_SECONDS:g} s")
        time.sleep(0.2)
    return Place(name, router.url, [ServerProcess(router.url, servers[0].log, router.process), *servers])
