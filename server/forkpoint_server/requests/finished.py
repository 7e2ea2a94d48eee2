"""What is stored of a request after its end: what its report needs, and neither its policy nor its program."""

from __future__ import annotations

from dataclasses import dataclass

from forkpoint_policies.compile.compiler import CompiledPolicy
from forkpoint_policies.compile.vocabulary import Vocabulary
from forkpoint_server.policies.connector_tokens import ConnectorIds
from forkpoint_server.traces.hidden_signals import SignalBounds, signal_bounds, signal_names
from forkpoint_server.traces.trace import Trace

from .options import RequestOptions
from .tree import Tree

REQUEST_BYTES = 2_000
"""Of a request without its traces, nodes and texts. This and what follows are CPython's, rounded up."""
NODE_BYTES = 400
PROMPT_TOKEN_BYTES = 40
BOUNDS_BYTES, BOUND_BYTES = 400, 40


@dataclass(frozen=True)
class AppliedPolicy:
    """What reports say about a request's policy; one that is only observed has no name, no digest and no actions."""

    name: str | None
    digest: str | None
    shadow: bool
    actions: tuple[str, ...]  # of each compiled rule
    signals: tuple[str, ...] = ()  # of hidden states, as traces.hidden_signals.signal_names has them
    bounds: tuple[SignalBounds, ...] = ()  # of its rules on those signals

    @property
    def is_named(self) -> bool:
        """Whether a policy applied, rather than only observation."""
        return self.name is not None


def applied_policy(compiled: CompiledPolicy) -> AppliedPolicy:
    """What reports say about this policy."""
    policy = compiled.policy
    if not compiled.is_named:
        return AppliedPolicy(None, None, False, (), signal_names(compiled))
    return AppliedPolicy(
        policy.name,
        compiled.digest,
        policy.shadow,
        compiled.actions,
        signal_names(compiled),
        signal_bounds(compiled),
    )


@dataclass(frozen=True)
class FinishedRequest:
    """A request that has ended, with the fields of its RequestContext that reports read.

    Stored requests are bounded by their memory: what is added here is counted in `num_bytes`, and nothing here may
    refer to a policy, a program or a context.
    """

    response_id: str | None
    engine_id: str | None
    client_id: str | None
    applied: AppliedPolicy
    experiment: str | None
    arm_name: str | None
    model_name: str
    options: RequestOptions
    fork_threshold: float  # nats
    stop_tokens: frozenset[int]  # the served model's, as are the vocabulary and the connectors
    vocabulary: Vocabulary
    connectors: ConnectorIds
    traces: tuple[Trace, ...]
    tree: Tree | None
    warnings: tuple[str, ...] = ()
    prompt_start: str | None = None  # of what its user wrote
    finish_reasons: tuple[str, ...] = ()
    created: float = 0.0  # seconds since 1970
    seconds: float = 0.0  # that it took

    @property
    def ids(self) -> tuple[str, ...]:
        """The names by which clients ask for it: of the response, of the engine's request, and their own."""
        return tuple(dict.fromkeys(one for one in (self.response_id, self.engine_id, self.client_id) if one))

    @property
    def num_bytes(self) -> int:
        """The memory that it takes beside what all requests share."""
        prompts = {id(trace.prompt): len(trace.prompt) for trace in self.traces}
        nodes = () if self.tree is None else self.tree.nodes
        texts = (*self.ids, self.applied.name, self.experiment, self.arm_name, *self.applied.actions, *self.warnings)
        bounds = self.applied.bounds
        texts = (*texts, self.prompt_start, *self.applied.signals)
        answers = (node.answer for node in nodes)
        return (
            REQUEST_BYTES
            + 4
            * sum(
                len(text) for text in (*texts, *answers) if text is not None
            )  # the widest strings have four bytes a character
            + sum(BOUNDS_BYTES + BOUND_BYTES * (len(one.above) + len(one.below)) for one in bounds)
            + PROMPT_TOKEN_BYTES * sum(prompts.values())
            + sum(trace.num_bytes for trace in self.traces)
            + sum(NODE_BYTES + PROMPT_TOKEN_BYTES * (len(node.forced_tokens) + len(node.forks)) for node in nodes)
        )
