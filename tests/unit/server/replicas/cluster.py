"""Servers that share a PostgreSQL: their routes for traces behind real HTTP servers, without an engine."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import httpx
import uvicorn
from fastapi import FastAPI
from sqlalchemy import Engine

from forkpoint_policies.spec import InputError
from forkpoint_server.errors import ApiError, handle_error
from forkpoint_server.replicas.forwarding import Forwarding
from forkpoint_server.replicas.registry import Replicas
from forkpoint_server.requests.recent import RecentTraces
from forkpoint_server.requests.reports import ReportThread
from forkpoint_server.requests.stream import Followers
from forkpoint_server.routes.forks import forks_router
from forkpoint_server.routes.replica import replica_router
from forkpoint_server.service import Service
from forkpoint_server.store.servers import OwnServer
from forkpoint_server.traces.trace import Trace
from tests.processes.forkpoint_server import free_port
from tests.unit.policies.vocabularies import tokens
from tests.unit.server.requests.recorded import context_of

HEARTBEAT_SECONDS = 0.1


@dataclass
class Member:
    """One server. Its `recent` traces are what a test puts there."""

    replicas: Replicas
    forwarding: Forwarding
    recent: RecentTraces
    followers: Followers
    service: Service
    url: str
    http: uvicorn.Server
    asked: list[str] = field(default_factory=list)  # the paths of the requests to it
    task: asyncio.Task[None] | None = None

    @property
    def num_followers(self) -> int:
        return sum(live.num_followers for live in self.followers._live.values())

    @property
    def id(self) -> str:
        return self.replicas.own.id

    def add(self, request_id: str, created: float = 1.0, **fields: Any) -> None:
        """Store the trace of a request that started at that time."""
        with self.running(request_id, created, **fields) as context:
            context.response_id = request_id
            context.finish_reasons.append("stop")

    @contextmanager
    def running(self, request_id: str, created: float = 1.0, **fields: Any) -> Iterator[Any]:
        """A request that runs until the block ends."""
        context = context_of(engine_id=request_id, created=created, prompt_start=f"of {self.id}", **fields)
        context.traces.append(Trace(7, 0, tokens=tokens("wait|so|let|wait"), prompt=tokens("let|so")))
        with self.recent.track(context):
            yield context

    async def get(self, path: str, **parameters: Any) -> httpx.Response:
        """What a client gets from this server."""
        async with httpx.AsyncClient() as client:
            return await client.get(f"{self.url}{path}", params=parameters, timeout=30)

    async def die(self) -> None:
        """End without a word, as after kill -9."""
        assert self.task is not None
        if self.replicas._task is not None:
            self.replicas._task.cancel()
        self.http.should_exit = self.http.force_exit = True
        for connection in list(self.http.server_state.connections):
            connection.transport.abort()
        await asyncio.gather(self.task, return_exceptions=True)


@asynccontextmanager
async def member(database: Engine) -> AsyncIterator[Member]:
    """One more server, until the block ends."""
    port = free_port()
    own = OwnServer(secrets.token_hex(6), f"http://127.0.0.1:{port}", secrets.token_hex(32), "countdown", "0.2.0")
    replicas = Replicas(database, own, HEARTBEAT_SECONDS)
    recent, reports = RecentTraces(), ReportThread()
    followers, forwarding = Followers(recent, reports), Forwarding(replicas)
    service = cast(
        Service,
        SimpleNamespace(
            recent=recent,
            reports=reports,
            followers=followers,
            replicas=replicas,
            forwarding=forwarding,
            config=SimpleNamespace(served_models=lambda: ["countdown", "adapter"]),
        ),
    )
    app = FastAPI()
    app.add_exception_handler(ApiError, handle_error)
    app.add_exception_handler(InputError, handle_error)
    app.include_router(forks_router(service))
    app.include_router(replica_router(service, replicas))
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="error", ws="none", lifespan="off"))
    made = Member(replicas, forwarding, recent, followers, service, own.address, server)

    @app.middleware("http")
    async def note(request: Any, call_next: Any) -> Any:
        made.asked.append(request.url.path)
        return await call_next(request)

    made.task = asyncio.create_task(server._serve())  # `serve` would take the test's signals
    while not server.started:  # noqa: ASYNC110  # nothing signals it
        await asyncio.sleep(0.01)
    await replicas.start()
    try:
        yield made
    finally:
        if not made.task.done():
            await replicas.stop()
        await forwarding.stop()
        server.should_exit = True
        await asyncio.gather(made.task, return_exceptions=True)


async def until(holds: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait until something holds. Raises TimeoutError."""
    async with asyncio.timeout(seconds):
        while not holds():  # noqa: ASYNC110  # nothing signals it
            await asyncio.sleep(0.01)


async def all_known(*members: Member) -> None:
    """Wait until each server knows that all others live."""
    await until(lambda: all(len(one.replicas.living) >= len(members) - 1 for one in members))
