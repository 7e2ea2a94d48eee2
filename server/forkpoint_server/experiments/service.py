"""The running experiments, in memory; read again whenever a server that shares the database changed something."""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from sqlalchemy import Engine

from forkpoint_policies.spec import InputError, Policy, parse_policy
from forkpoint_server.policies.registry import Registry
from forkpoint_server.store.executor import UnavailableError, in_thread
from forkpoint_server.store.experiments import Definitions, StoredExperiment, read_definitions, read_number

from .live import CompileOne, Enrolment, LiveExperiment, NotEnrolled, make_live

logger = logging.getLogger(__name__)

POLL_SECONDS = 1.0
UNREACHABLE = "the database does not answer; experiments and policies stay as they are"


class Experiments:
    """Enrols requests. `problems`: experiment -> why it does not run on this server."""

    def __init__(self, database: Engine, registry: Registry, compile_one: CompileOne, max_branches: int) -> None:
        self._database = database
        self._registry = registry
        self._compile_one = compile_one
        self._max_branches = max_branches
        self._number = -1  # of changes in the database that are known here
        self._reading = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self._running: tuple[LiveExperiment, ...] = ()  # in the order in which they enrol
        self._live: dict[int, LiveExperiment] = {}  # by id
        self._requests: dict[int, tuple[str, float]] = {}  # ticket -> experiment, start; oldest first
        self._tickets = itertools.count()
        self._reachable = True
        self.problems: dict[str, str] = {}

    async def start(self) -> None:
        """Read all definitions, and follow changes from then on."""
        await self.refresh()
        self._task = asyncio.create_task(self._poll(), name="forkpoint-experiments")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def refresh(self) -> None:
        """Read all definitions again if any changed. Raises UnavailableError."""
        async with self._reading:
            if await in_thread(read_number, self._database) != self._number:
                await self._update(await in_thread(read_definitions, self._database))

    async def follow(self) -> None:
        """Read a change that was just made. If the database does not answer, the next poll reads it."""
        with suppress(UnavailableError):
            await self.refresh()

    def enrol(self, path: str, body: Mapping[str, Any], headers: Mapping[str, str]) -> Enrolment | None:
        """The request's arm in the first experiment that it is part of: by priority, then the older one first."""
        for live in self._running:
            enrolment = live.enrol(path, body, headers, self._max_branches)
            if isinstance(enrolment, Enrolment):
                return enrolment
            if enrolment is NotEnrolled.PAUSED:
                return None
        return None

    @property
    def running(self) -> tuple[str, ...]:
        """The names of the experiments that enrol requests here."""
        return tuple(live.stored.name for live in self._running)

    def start_request(self, enrolment: Enrolment) -> int:
        """Note that a request of an experiment has started. Returns a ticket for `end_request`."""
        ticket = next(self._tickets)
        self._requests[ticket] = enrolment.live.stored.name, time.time()
        return ticket

    def end_request(self, ticket: int) -> None:
        """Note that a request has ended and is about to be recorded."""
        self._requests.pop(ticket, None)

    def oldest_start(self, name: str) -> float | None:
        """When the oldest request of an experiment that still runs here started (seconds since 1970)."""
        return next((start for experiment, start in self._requests.values() if experiment == name), None)

    def stored(self, name: str) -> StoredExperiment | None:
        """An experiment as this server last read it."""
        return next((live.stored for live in self._live.values() if live.stored.name == name), None)

    def live(self, stored: StoredExperiment) -> LiveExperiment | None:
        """An experiment as this server runs it, or would; None where it cannot."""
        return self._live.get(stored.id)

    def warnings(self) -> list[str]:
        """Warnings for the server's users, one line each."""
        return [] if self._reachable else [UNREACHABLE]

    async def _poll(self) -> None:
        while True:
            await asyncio.sleep(POLL_SECONDS)
            try:
                await self.refresh()
            except (UnavailableError, OSError) as error:
                if self._reachable:
                    logger.warning("%s (%s)", UNREACHABLE, type(error.__cause__ or error).__name__)
                self._reachable = False
            except Exception:  # one bad change must not end the polling
                logger.exception("experiments could not be read")
            else:
                if not self._reachable:
                    logger.warning("the database answers again")
                self._reachable = True

    async def _update(self, definitions: Definitions) -> None:
        self._registry.replace_stored(_read_policies(definitions.policies))
        made: dict[int, LiveExperiment] = {}
        problems: dict[str, str] = {}
        for stored in definitions.experiments:
            before = self._live.get(stored.id)
            if before is not None and before.stored == stored:
                made[stored.id] = before
                continue
            try:
                made[stored.id] = await make_live(stored, self._compile_one)
            except InputError as error:
                problems[stored.name] = str(error)
                logger.warning("the experiment %s does not run on this server: %s", stored.name, error)
        running = [live for live in made.values() if live.stored.status == "running"]
        self._live, self.problems, self._number = made, problems, definitions.number
        self._running = tuple(sorted(running, key=lambda live: (-live.stored.definition.priority, live.stored.id)))


def _read_policies(stored: Mapping[str, Any]) -> dict[str, Policy]:
    found = {}
    for name, policy in stored.items():
        try:
            found[name] = parse_policy(policy)
        except InputError as error:  # written by another version
            logger.warning("the stored policy %s cannot be read: %s", name, error)
    return found
