"""The context of one HTTP request: the policy that applies to it, and the traces of what is generated for it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field

from forkpoint_policies.compile.compiler import CompiledPolicy, ServedModel
from forkpoint_policies.compile.vocabulary import Vocabulary
from forkpoint_policies.spec import Rule
from forkpoint_server.experiments.live import Enrolment
from forkpoint_server.policies.connector_tokens import ConnectorIds
from forkpoint_server.traces.receiver import Receiver
from forkpoint_server.traces.trace import Trace
from forkpoint_server.tracing import RequestSpans

from .finished import AppliedPolicy, FinishedRequest, applied_policy
from .options import RequestOptions
from .tree import Tree

current: ContextVar[RequestContext | None] = ContextVar("forkpoint_request", default=None)
"""The context of the HTTP request being handled: set by the middleware, read by the engine."""


@dataclass
class RequestContext:
    """One HTTP request: what applies to it, and what was generated, in the order of the response's choices.

    The engine may find that a policy cannot apply. A request then leaves its experiment for `without_experiment`, and
    one with the server's default policy (`is_default`) falls back to `fallback`. Where that is None, the request
    becomes `inactive`: it runs in stock vLLM, and nothing is reported.
    """

    compiled: CompiledPolicy
    model: ServedModel
    receiver: Receiver
    connectors: ConnectorIds
    fork_threshold: float  # nats
    model_name: str = ""  # in the metrics: of the served model, or of the adapter that the request names
    options: RequestOptions = field(default_factory=RequestOptions)
    stop_tokens: frozenset[int] = frozenset()  # the tokens that end an answer
    spans: RequestSpans | None = None  # where vLLM's spans go, if they are exported
    stores_traces: bool = True  # after its end, and shows them before

    # what applies where the policy cannot
    enrolment: Enrolment | None = None
    without_experiment: CompiledPolicy | None = None
    is_default: bool = False
    fallback: CompiledPolicy | None = None
    inactive: bool = False

    # what was generated
    client_id: str | None = None  # the id that the client chose, in the header X-Request-Id or in the body
    engine_id: str | None = None  # the response's id as the engine knows it before there is a response
    response_id: str | None = None
    prompt_start: str | None = None  # of what its user wrote
    prompt: Sequence[int] = ()  # of the traces that are opened next
    num_prompt_tokens: int = 0
    num_program_bytes: int = 0  # of the policy's program, once per choice
    traces: list[Trace] = field(default_factory=list)
    otel_trace_id: str | None = None  # of the spans, once they are complete
    traces_by_engine_id: dict[str, Trace] = field(default_factory=dict)  # for the spans
    tree: Tree | None = None
    limit_warnings: tuple[str, ...] = ()  # what the policy could not do for the server's limits
    settled: bool = False  # the records of all its tokens were waited for
    finish_reasons: list[str] = field(default_factory=list)
    created: float = field(default_factory=time.time)  # seconds since 1970
    started_at: float = field(default_factory=time.monotonic)

    @property
    def tree_rule(self) -> Rule | None:
        """The rule by which the request branches into a tree, if it does."""
        return None if self.compiled.policy.shadow else self.compiled.policy.tree_rule

    @property
    def missing_choices(self) -> str | None:
        """`3 of 6` if the policy's tree ended with fewer answers than the request has choices; None otherwise."""
        tree = self.tree
        if tree is None or not self.finish_reasons or not tree.has_fewer_choices:
            return None
        return f"{tree.num_answers} of {tree.num_requested}"

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the policy could not do, for the server's limits or as its author set it."""
        tree, missing, found = self.tree, self.missing_choices, list(self.limit_warnings)
        if missing is not None:
            found.append(f"returns {missing} choices")
        if tree is not None and tree.num_requested is None and tree.num_refused:
            found.append(f"{tree.num_refused} answers or trial answers could not start")
        return tuple(found)

    @property
    def arm(self) -> str:
        """`EXPERIMENT/ARM`; empty outside of experiments."""
        return "" if self.enrolment is None else self.enrolment.label

    @property
    def experiment(self) -> str | None:
        return None if self.enrolment is None else self.enrolment.live.stored.name

    @property
    def arm_name(self) -> str | None:
        return None if self.enrolment is None else self.enrolment.arm.name

    @property
    def applied(self) -> AppliedPolicy:
        """What reports say about the policy."""
        return applied_policy(self.compiled)

    @property
    def vocabulary(self) -> Vocabulary:
        return self.model.vocabulary

    def finished(self) -> FinishedRequest:
        """What is stored of this request once it has ended."""
        return FinishedRequest(
            response_id=self.response_id,
            engine_id=self.engine_id,
            client_id=self.client_id,
            applied=self.applied,
            experiment=self.experiment,
            arm_name=self.arm_name,
            model_name=self.model_name,
            options=self.options,
            fork_threshold=self.fork_threshold,
            stop_tokens=self.stop_tokens,
            vocabulary=self.vocabulary,
            connectors=self.connectors,
            traces=tuple(self.traces),
            tree=self.tree,
            warnings=self.warnings,
            prompt_start=self.prompt_start,
            finish_reasons=tuple(self.finish_reasons),
            created=self.created,
            seconds=time.monotonic() - self.started_at,
        )


Reported = RequestContext | FinishedRequest
"""A request that is reported on, while it runs or after its end."""
