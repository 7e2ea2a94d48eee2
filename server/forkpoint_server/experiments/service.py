"""The running experiments, in memory; read again whenever a server that shares the database changed something."""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine
from starlette.datastructures import Headers

from forkpoint_policies.catalog import Named, with_placebo
from forkpoint_policies.spec import InputError, parse_policy
from forkpoint_server import metrics
from forkpoint_server.artefacts.served import ServedArtefacts
from forkpoint_server.errors import ApiError
from forkpoint_server.policies.registry import Registry
from forkpoint_server.store.executor import UnavailableError, in_thread
from forkpoint_server.store.experiments import Definitions, StoredExperiment, read_definitions, read_number

from .live import CompileOne, Enrolment, LiveExperiment, NotEnrolled, make_live, named_artefacts

logger = logging.getLogger(__name__)

POLL_SECONDS = 1.0
STALE_SECONDS = 10.0
"""After so long without an answer of the database, the server warns, even if a poll still waits for it."""
SWEEP_SECONDS = 15.0
"""How often the metrics of what is gone are removed: a request that outlives its policy counts once more at its end."""
UNNAMED = ("inline", "none")
"""The labels of policies without a name."""
UNREACHABLE = "the database does not answer; experiments and policies stay as they are"


class Experiments:
    """Enrols requests. `problems`: experiment -> why it does not run on this server."""

    def __init__(
        self,
        database: Engine,
        registry: Registry,
        compile_one: CompileOne,
        max_branches: int,
        artefacts: ServedArtefacts | None = None,
    ) -> None:
        self.on_change: Callable[[], Awaitable[None]] | None = None  # called before anything changed is compiled
        self._artefacts = artefacts
        self._database = database
        self._registry = registry
        self._compile_one = compile_one
        self._max_branches = max_branches

        # what the database holds, as of change `_number`
        self._number = -1
        self._stored: dict[int, StoredExperiment] = {}  # by id
        self._policies: dict[str, _ParsedPolicy] = {}

        # what this server runs of it
        self._live: dict[int, LiveExperiment] = {}  # by id
        self._running: tuple[LiveExperiment, ...] = ()  # in the order in which they enrol
        self._compiling: dict[int, asyncio.Task[None]] = {}  # by id
        self.problems: dict[str, str] = {}

        # requests in flight
        self._requests: dict[int, tuple[str, float]] = {}  # ticket -> experiment, start; oldest first
        self._tickets = itertools.count()

        # polling
        self._reading = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self._read_at = time.monotonic()
        self._swept_at = time.monotonic()
        self._reachable = True

    async def start(self) -> None:
        """Read all definitions, and follow changes from then on."""
        await self.refresh()
        await self.all_compiled()
        self._task = asyncio.create_task(self._poll(), name="forkpoint-experiments")

    async def stop(self) -> None:
        tasks = [*self._compiling.values(), *([] if self._task is None else [self._task])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def refresh(self) -> None:
        """Read all definitions again if any changed. Raises UnavailableError."""
        async with self._reading:
            if await in_thread(read_number, self._database) != self._number:
                await self.apply(await in_thread(read_definitions, self._database))
            self._read_at = time.monotonic()

    async def follow(self) -> None:
        """Read a change that was just made. If the database does not answer, the next poll reads it."""
        with suppress(UnavailableError):
            await self.refresh()

    async def apply(self, definitions: Definitions) -> None:
        """Run what these definitions say. New experiments start once they are compiled; all else happens at once."""
        before, self._stored = self._stored, {stored.id: stored for stored in definitions.experiments}

        # what was paused, stopped or deleted leaves the traffic before anything is parsed or compiled
        kept = {number: live for number, live in self._live.items() if number in self._stored}
        self._live = {number: _brought_up_to_date(live, self._stored[number]) for number, live in kept.items()}
        self._choose_running()
        for number in self._compiling.keys() - self._stored.keys():
            self._compiling.pop(number).cancel()
        for gone in before.keys() - self._stored.keys():
            self.problems.pop(before[gone].name, None)

        # what policies are compiled with
        if self.on_change is not None:
            await self.on_change()
        if self._artefacts is not None:
            await self._artefacts.follow(definitions.artefacts)

        # named policies
        self._policies = await asyncio.to_thread(_parse_policies, definitions.policies, self._policies)
        self._registry.replace_stored(named for policy in self._policies.values() for named in policy.named)
        self._number = definitions.number
        self.remove_series()

        # new experiments
        for number in self._stored.keys() - self._live.keys() - self._compiling.keys():
            self._compiling[number] = asyncio.create_task(self._compile(number), name="forkpoint-compile-experiment")

    async def compiled(self, number: int) -> None:
        """Wait until the experiment with this id runs here, or has a problem."""
        if number in self._compiling:
            await asyncio.wait([self._compiling[number]])

    async def all_compiled(self) -> None:
        """Wait until no experiment is being compiled."""
        if self._compiling:
            await asyncio.wait(self._compiling.values())

    def enrol(self, path: str, body: Mapping[str, Any], headers: Headers, model_name: str = "") -> Enrolment | None:
        """The request's arm in the first experiment that it is part of: by priority, then the older one first.

        `model_name` is the model's in the metrics. Raises InputError for a unit that has two values.
        """
        for live in self._running:
            enrolment = live.enrol(path, body, headers, self._max_branches)
            if isinstance(enrolment, Enrolment):
                return enrolment
            if enrolment is NotEnrolled.PAUSED:
                return None
            if enrolment is not NotEnrolled.OUTSIDE:
                metrics.INELIGIBLE.labels(model_name, live.stored.name, enrolment.value).inc()
        return None

    @property
    def running(self) -> tuple[str, ...]:
        """The names of the experiments that enrol requests here."""
        return tuple(live.stored.name for live in self._running)

    def naming_artefact(self, name: str) -> tuple[str, ...]:
        """The names of the running experiments with a policy that depends on this vector or readout."""
        return tuple(live.stored.name for live in self._running if name in named_artefacts(live.stored))

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
        return next((stored for stored in self._stored.values() if stored.name == name), None)

    def live(self, stored: StoredExperiment) -> LiveExperiment | None:
        """An experiment as this server runs it, or would; None where it cannot."""
        return self._live.get(stored.id)

    def warnings(self) -> list[str]:
        """Warnings for the server's users, one line each."""
        stale = self._task is not None and time.monotonic() - self._read_at > STALE_SECONDS
        return [UNREACHABLE] if stale or not self._reachable else []

    def remove_series(self) -> None:
        """Remove the metrics of policies and experiments that are gone."""
        self._swept_at = time.monotonic()
        shown = [stored for stored in self._stored.values() if stored.status != "stopped"]
        arms = {stored.name: [arm.name for arm in stored.definition.arms] for stored in shown}
        of_arms = {(arm.label or "").removesuffix(metrics.SHADOW) for one in shown for arm in one.definition.arms}
        policies = {*(named.policy.name for named in self._registry), *UNNAMED, *of_arms}
        readouts = self._artefacts.named if self._artefacts is not None else {}
        metrics.remove_series(policies, arms, readouts.keys())

    async def _poll(self) -> None:
        while True:
            await asyncio.sleep(POLL_SECONDS)
            try:
                await self.refresh()
                if time.monotonic() - self._swept_at > SWEEP_SECONDS:
                    self.remove_series()
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

    async def _compile(self, number: int) -> None:
        """Compile a new experiment, and run it as it is defined by then."""
        stored = self._stored[number]
        try:
            made = await self._made(stored)
            if number in self._stored:
                self._live[number] = _brought_up_to_date(made, self._stored[number])
                self.problems.pop(stored.name, None)
                self._choose_running()
        except InputError as error:
            self.problems[stored.name] = str(error)
            logger.warning("the experiment %s does not run on this server: %s", stored.name, error)
        finally:
            if self._compiling.get(number) is asyncio.current_task():
                del self._compiling[number]

    async def _made(self, stored: StoredExperiment) -> LiveExperiment:
        """Compile an experiment; where the compiler is too busy to take more, again later. Raises InputError."""
        while True:
            try:
                return await make_live(stored, self._compile_one)
            except ApiError as error:
                logger.warning("the experiment %s is not compiled yet: %s", stored.name, error)
                await asyncio.sleep(POLL_SECONDS)

    def _choose_running(self) -> None:
        running = [live for live in self._live.values() if live.stored.status == "running"]
        self._running = tuple(sorted(running, key=lambda live: (-live.stored.definition.priority, live.stored.id)))


@dataclass(frozen=True)
class _ParsedPolicy:
    """A stored policy: as it is stored, and with its placebo."""

    stored: Any
    named: tuple[Named, ...]


def _brought_up_to_date(live: LiveExperiment, stored: StoredExperiment) -> LiveExperiment:
    return live if live.stored == stored else live.changed_to(stored)


def _parse_policies(stored: Mapping[str, Any], before: Mapping[str, _ParsedPolicy]) -> dict[str, _ParsedPolicy]:
    """Parse the stored policies that have changed."""
    found = {}
    for name, policy in stored.items():
        known = before.get(name)
        if known is not None and known.stored == policy:
            found[name] = known
            continue
        try:
            found[name] = _ParsedPolicy(policy, tuple(with_placebo(parse_policy(policy))))
        except InputError as error:  # written by another version
            logger.warning("the stored policy %s cannot be read: %s", name, error)
            found[name] = _ParsedPolicy(policy, ())
    return found
