"""What the running server knows: the served model as policies see it, the registry, and the telemetry."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from dataclasses import replace

from sqlalchemy import Engine

from forkpoint_policies.compile.compiler import Compiled, ServedModel, compile_policy
from forkpoint_policies.compile.program import key_of
from forkpoint_policies.spec import Policy
from forkpoint_server.calibration.threshold import Threshold
from forkpoint_server.experiments.live import Enrolment
from forkpoint_server.experiments.service import Experiments
from forkpoint_server.experiments.srm_monitor import watch_ratios
from forkpoint_server.policies.compiled import Plan, Plans
from forkpoint_server.policies.connector_tokens import find_connectors
from forkpoint_server.policies.registry import Registry
from forkpoint_server.policies.resolve import Asked
from forkpoint_server.requests.context import Part, RequestContext
from forkpoint_server.requests.recent import Traces
from forkpoint_server.requests.recording import Attendance
from forkpoint_server.store.recorder import Recorder
from forkpoint_server.traces.receiver import Receiver

from .tracing import RequestSpans


class Service:
    """Compiles policies for the served model, and opens an Intervention for each request that asks for one.

    `stops` are the tokens with which the model ends what it writes.
    """

    def __init__(
        self,
        target: ServedModel,
        registry: Registry,
        default: str | None,
        receiver: Receiver,
        models: Callable[[], Collection[str]],
        most_branches: int,
        database: Engine,
        threshold: Threshold,
        retention_days: int,
        spans: RequestSpans | None,
        stops: frozenset[int],
        most_trace_tokens: int,
    ) -> None:
        self.target = target
        self.stops = stops
        self.threshold = threshold
        self.registry = registry
        self.default = default
        self.models = models
        self.most_branches = most_branches
        self.database = database
        self.retention_days = retention_days
        self.recorder = Recorder(database, retention_days)
        self.experiments = Experiments(database, registry, self.plan, most_branches)
        self.connectors = find_connectors(target.vocabulary)
        self.traces = Traces(most_trace_tokens)
        self._receiver = receiver
        self._spans = spans
        self._plans = Plans(self._planned)
        self._ratios: asyncio.Task[None] | None = None

    def recalibrate(self) -> None:
        """Take the threshold as it is now: what is compiled from here on means it by `fork`."""
        self.target = replace(self.target, fork_threshold=self.threshold.nats)
        self._plans.clear()

    def compile(self, policy: Policy) -> Compiled:
        """Compile a policy. Raises InputError where the served model's tokenizer cannot express it."""
        return compile_policy(policy, self.target)

    def warnings(self) -> list[str]:
        """What a user of the server should know now, one line each."""
        told = (self.threshold, self._receiver, self.experiments, self.recorder)
        return [warning for one in told for warning in one.warnings()]

    async def start(self) -> None:
        """Begin to record, and to follow what is defined."""
        self.recorder.start()
        await self.experiments.start()
        self._ratios = asyncio.create_task(watch_ratios(self.database, self.experiments), name="forkpoint-ratios")

    async def stop(self) -> None:
        """Write what is still to be recorded."""
        if self._ratios is not None:
            self._ratios.cancel()
            await asyncio.gather(self._ratios, return_exceptions=True)
        await self.experiments.stop()
        await asyncio.to_thread(self.recorder.stop)

    async def intervention(
        self, asked: Asked | None, forks: bool, gives_way: bool = False, enrolment: Enrolment | None = None
    ) -> RequestContext | None:
        """What a request with this policy, or in this arm, needs, or None when it asks for nothing. Raises InputError.

        A policy that `gives_way` is the server's default, which the request did not ask for.
        """
        observed = part_of(await self.plan(self.registry.get("observe").policy), None) if forks else None
        plain = part_of(await self.plan(asked.policy), asked) if asked is not None else observed
        part = part_of(enrolment.watch.plan, enrolment.arm.asked) if enrolment is not None else plain
        if part is None:
            return None
        return RequestContext(
            plan=part.plan,
            label=part.label,
            named=part.named,
            enrolment=enrolment,
            otherwise=plain,
            forks=forks,
            threshold=self.target.fork_threshold,
            receiver=self._receiver,
            target=self.target,
            connectors=self.connectors,
            gives_way=gives_way,
            without=observed,
            spans=self._spans,
            stops=self.stops,
        )

    def attend(self, intervention: RequestContext) -> Attendance | None:
        """Follow a request of an experiment until it ends; None for one of no experiment."""
        return None if intervention.enrolment is None else Attendance(intervention, self.experiments, self.recorder)

    async def plan(self, policy: Policy) -> Plan:
        """The policy as compiled. Raises InputError."""
        return await self._plans.get(policy)

    def _planned(self, policy: Policy) -> Plan:
        compiled = self.compile(policy)
        packed = compiled.program.pack()
        return Plan(policy, compiled, packed, key_of(packed))


def part_of(plan: Plan, asked: Asked | None) -> Part:
    """What is done with a request that asked for this, or for nothing: then it is observed."""
    return Part(plan, "none" if asked is None else asked.label, asked is not None)
