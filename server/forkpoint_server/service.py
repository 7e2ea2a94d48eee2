"""The running server's state: the served model as policies see it, the policies, the experiments and the traces."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Engine

from forkpoint_policies.compile.compiler import CompiledPolicy, ServedModel
from forkpoint_policies.hidden.artefact import Artefact
from forkpoint_server.artefacts.served import ServedArtefacts
from forkpoint_server.calibration.threshold import Threshold
from forkpoint_server.experiments.analysis_monitor import monitor_analyses
from forkpoint_server.experiments.live import Enrolment
from forkpoint_server.experiments.service import Experiments
from forkpoint_server.policies.compiled import CompiledPolicyCache, LabeledPolicy
from forkpoint_server.policies.connector_tokens import find_connectors
from forkpoint_server.policies.registry import Registry
from forkpoint_server.replicas.forwarding import Forwarding
from forkpoint_server.replicas.registry import Replicas
from forkpoint_server.requests.context import RequestContext
from forkpoint_server.requests.options import RequestOptions
from forkpoint_server.requests.recent import RecentTraces
from forkpoint_server.requests.reports import ReportThread
from forkpoint_server.requests.stream import Followers
from forkpoint_server.store.database import database_warnings
from forkpoint_server.store.executor import in_thread
from forkpoint_server.store.recorder import Recorder
from forkpoint_server.store.servers import OwnServer
from forkpoint_server.traces.receiver import Receiver

from .tracing import RequestSpans

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ServerConfig:
    """What a server is started with. `served_models` returns the names that a request's `model` may have."""

    registry: Registry
    default_policy: str | None  # of requests that name none
    database: Engine
    threshold: Threshold
    receiver: Receiver
    spans: RequestSpans | None
    served_models: Callable[[], Sequence[str]]
    model_label: Callable[[Any], str]  # from a request's `model` to its `model_name` in the metrics
    stop_tokens: frozenset[int]  # with which the model ends its answers
    max_branches: int
    max_trace_tokens: int
    retention_days: int
    show_arms: bool  # to the clients of experiments
    own_server: OwnServer | None = None  # as the other servers of a PostgreSQL know this one
    sibling_keys: frozenset[str] = frozenset()  # of the other API servers of this engine


class Service:
    """What the routes and the middlewares share: policies compiled for the served model, experiments, recent traces."""

    def __init__(self, config: ServerConfig, model: ServedModel, artefacts: ServedArtefacts) -> None:
        self.config = config
        self.artefacts = artefacts
        artefacts.on_change = self._use_artefacts
        self.registry = config.registry
        self.database = config.database
        self.threshold = config.threshold
        self.compiled_policies = CompiledPolicyCache(model)  # of the registry and of experiments
        self.inline_policies = CompiledPolicyCache(model)  # clients' own, which neither delay nor evict the others
        self.recorder = Recorder(config.database, config.retention_days)
        self.experiments = Experiments(
            config.database, config.registry, self.compiled_policies.get, config.max_branches, artefacts
        )
        self.experiments.on_change = self._follow_calibration
        self.connectors = find_connectors(model.vocabulary)
        self.recent = RecentTraces(config.max_trace_tokens)
        self.reports = ReportThread()
        self.followers = Followers(self.recent, self.reports)
        self.replicas = (
            None
            if config.own_server is None
            else Replicas(config.database, config.own_server, sibling_keys=config.sibling_keys)
        )
        self.forwarding = None if self.replicas is None else Forwarding(self.replicas)
        self._database_warnings = database_warnings(config.database)
        self._analysis_monitor: asyncio.Task[None] | None = None

    @property
    def model(self) -> ServedModel:
        return self.compiled_policies.model

    def recalibrate(self) -> None:
        """Use the calibration as it is now: policies are compiled anew, with what `fork` and `reasoning_lengths` now
        mean."""
        for cache in (self.compiled_policies, self.inline_policies):
            mean = self.threshold.mean_reasoning_tokens
            cache.use_model(replace(cache.model, fork_threshold=self.threshold.nats, mean_reasoning_tokens=mean))

    async def _follow_calibration(self) -> None:
        if await in_thread(self.threshold.follow):
            self.recalibrate()
            logger.info("the fork threshold is %.4g nats from now on, as stored by another server", self.threshold.nats)

    def _use_artefacts(self, artefacts: Mapping[str, Artefact]) -> None:
        """Compile policies anew, with the vectors and readouts that they name as these now are."""
        for cache in (self.compiled_policies, self.inline_policies):
            cache.use_model(replace(cache.model, artefacts=artefacts))

    def warnings(self) -> list[str]:
        """What an operator should know now, one line each."""
        sources = (self.threshold, self.config.receiver, self.experiments, self.recorder)
        return [*self._database_warnings, *(warning for source in sources for warning in source.warnings())]

    async def start(self) -> None:
        """Start to record requests, and to follow the experiments in the database."""
        for warning in self._database_warnings:
            logger.warning(warning)
        self.recorder.start()
        await self.experiments.start()
        if self.replicas is not None:
            await self.replicas.start()
        self._analysis_monitor = asyncio.create_task(
            monitor_analyses(self.database, self.experiments), name="forkpoint-analyses"
        )

    async def stop(self) -> None:
        """Write what is not recorded yet."""
        if self._analysis_monitor is not None:
            self._analysis_monitor.cancel()
            await asyncio.gather(self._analysis_monitor, return_exceptions=True)
        await self.experiments.stop()
        if self.replicas is not None and self.forwarding is not None:
            await self.replicas.stop()
            await self.forwarding.stop()
        await asyncio.to_thread(self.recorder.stop)

    async def compile(self, labeled: LabeledPolicy) -> CompiledPolicy:
        """A request's policy, compiled. Raises InputError, and ApiError (503) where too many new policies wait."""
        cache = self.compiled_policies if self.registry.holds(labeled.policy) else self.inline_policies
        return await cache.get(labeled)

    async def open_context(
        self,
        policy: LabeledPolicy | None,
        options: RequestOptions,
        is_default: bool = False,
        enrolment: Enrolment | None = None,
        model_name: str = "",
    ) -> RequestContext | None:
        """The context of a request; None without a policy, an option about tokens or an experiment. Raises InputError.

        `is_default`: the policy is the server's default, which the request did not name.
        """
        observe = LabeledPolicy(self.registry.get("observe").policy)
        observed = await self.compiled_policies.get(observe) if options.forks or options.policy_logprobs else None
        plain = await self.compile(policy) if policy is not None else observed
        compiled = enrolment.detector.compiled if enrolment is not None else plain
        inactive = compiled is None and options.stop_in == "answer"  # which works without a policy
        if inactive:
            compiled = await self.compiled_policies.get(observe)
        if compiled is None:
            return None
        return RequestContext(
            compiled,
            self.model,
            self.config.receiver,
            self.connectors,
            self.model.fork_threshold,
            model_name,
            options=options,
            inactive=inactive,
            stop_tokens=self.config.stop_tokens,
            spans=self.config.spans,
            stores_traces=self.config.max_trace_tokens > 0,
            enrolment=enrolment,
            without_experiment=plain,
            is_default=is_default,
            fallback=observed,
        )
