"""The experiments that run, in memory: read anew whenever this server or another one that shares the database changed something."""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from forkpoint_policies.spec import InputError, Policy, parse_policy
from forkpoint_server.policies.registry import Registry
from forkpoint_server.store.executor import BusyError, in_thread
from forkpoint_server.store.experiments import Definitions, Stored, read_definitions, read_number

from .live import CompileOne, Enrolment, Live, make_live

logger = logging.getLogger(__name__)

POLL_SECONDS = 1.0
UNREACHABLE = "the database does not answer; experiments and policies stay as they are"


class Experiments:
    """What requests are assigned by. `problems` says of an experiment why it does not run on this server."""

    def __init__(self, database: Engine, registry: Registry, compile_one: CompileOne, most_branches: int) -> None:
        self._database = database
        self._registry = registry
        self._compile_one = compile_one
        self._most_branches = most_branches
        self._number = -1
        self._reading = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self._running: tuple[Live, ...] = ()
        self._made: dict[int, Live] = {}
        self._begun: dict[
            int, tuple[str, float]
        ] = {}  # requests that run: their experiment and time, in the order of beginning
        self._tickets = itertools.count()
        self._reachable = True
        self.problems: dict[str, str] = {}

    async def start(self) -> None:
        """Read what there is, and go on looking for changes."""
        await self.refresh()
        self._task = asyncio.create_task(self._poll(), name="forkpoint-experiments")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def refresh(self) -> None:
        """Read all definitions, if there are newer ones."""
        async with self._reading:
            if await in_thread(read_number, self._database) != self._number:
                await self._take(await in_thread(read_definitions, self._database))

    async def follow(self) -> None:
        """Read what was changed just now; where the database does not answer, the next look takes it up."""
        with suppress(SQLAlchemyError, BusyError):
            await self.refresh()

    def enrol(self, path: str, body: Mapping[str, Any], headers: Mapping[str, str]) -> Enrolment | None:
        """The first running experiment that a request falls under, by priority and then by age, and its arm in it."""
        for live in self._running:
            place = live.enrol(path, body, headers, self._most_branches)
            if place is True:
                return None
            if place is not False:
                return place
        return None

    @property
    def running(self) -> tuple[str, ...]:
        """The names of those that requests fall under."""
        return tuple(live.stored.name for live in self._running)

    def begin(self, enrolment: Enrolment) -> int:
        """Note that a request of an experiment runs; the ticket is for `end`."""
        ticket = next(self._tickets)
        self._begun[ticket] = enrolment.live.stored.name, time.time()
        return ticket

    def end(self, ticket: int) -> None:
        """Note that a request has ended and is being recorded."""
        self._begun.pop(ticket, None)

    def oldest(self, name: str) -> float | None:
        """When the oldest request of an experiment that still runs here began."""
        return next((begun for experiment, begun in self._begun.values() if experiment == name), None)

    def stored(self, name: str) -> Stored | None:
        """An experiment as this server last saw it."""
        return next((live.stored for live in self._made.values() if live.stored.name == name), None)

    def live(self, stored: Stored) -> Live | None:
        """An experiment as this server runs or would run it; None where it cannot."""
        return self._made.get(stored.id)

    def warnings(self) -> list[str]:
        """What a user should know of it."""
        return [] if self._reachable else [UNREACHABLE]

    async def _poll(self) -> None:
        while True:
            await asyncio.sleep(POLL_SECONDS)
            try:
                await self.refresh()
            except (SQLAlchemyError, OSError, BusyError) as error:
                if self._reachable:
                    logger.warning("%s (%s)", UNREACHABLE, type(error).__name__)
                self._reachable = False
            except Exception:  # whatever is wrong with one change, the next one is looked at
                logger.exception("experiments could not be read")
            else:
                if not self._reachable:
                    logger.warning("the database answers again")
                self._reachable = True

    async def _take(self, found: Definitions) -> None:
        self._registry.replace_stored(_read_policies(found.policies))
        made: dict[int, Live] = {}
        problems: dict[str, str] = {}
        for stored in found.experiments:
            before = self._made.get(stored.id)
            if before is not None and before.stored == stored:
                made[stored.id] = before
                continue
            try:
                made[stored.id] = await make_live(stored, self._compile_one)
            except InputError as error:
                problems[stored.name] = str(error)
                logger.warning("the experiment %s does not run on this server: %s", stored.name, error)
        running = [live for live in made.values() if live.stored.status == "running"]
        self._made, self.problems, self._number = made, problems, found.number
        self._running = tuple(sorted(running, key=lambda live: (-live.stored.definition["priority"], live.stored.id)))


def _read_policies(stored: Mapping[str, Any]) -> dict[str, Policy]:
    found = {}
    for name, policy in stored.items():
        try:
            found[name] = parse_policy(policy)
        except InputError as error:  # written by another version
            logger.warning("the stored policy %s cannot be read: %s", name, error)
    return found
