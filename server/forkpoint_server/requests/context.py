"""One HTTP request's intervention: its policy as compiled, the traces of its choices, and what is told of them."""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from forkpoint_policies.compile.compiler import ServedModel
from forkpoint_policies.spec import Branch, Policy, Probe, Resume, Rule
from forkpoint_server import metrics
from forkpoint_server.policies.compiled import Plan
from forkpoint_server.policies.connector_tokens import ConnectorIds
from forkpoint_server.traces.receiver import Receiver
from forkpoint_server.traces.trace import Profile, Trace
from forkpoint_server.tracing import RequestSpans

from .serialize import fork_points, report
from .tree import Node, Tree

if TYPE_CHECKING:
    from forkpoint_server.experiments.live import Enrolment

ALTERNATIVES = 5
"""How many likeliest tokens are kept for whoever looks at a trace."""
BRANCH_ALTERNATIVES = 20
"""How many a branch may choose from, and how many confidence is an average over."""

current: ContextVar[RequestContext | None] = ContextVar("forkpoint_intervention", default=None)
"""The intervention of the HTTP request being handled: set by the middleware, read by the engine."""


class Part(NamedTuple):
    """What is done with a request: a plan, the policy's name in the metrics, and whether it is one that was asked for."""

    plan: Plan
    label: str
    named: bool


@dataclass
class RequestContext:
    """What one HTTP request asked for, or its experiment gave it, and its traces, in the order of the response's choices.

    `otherwise` is what it would get without its experiment. One that is `silent` does nothing and is not told of. A policy that
    `gives_way` was not asked for by the request: where it cannot be, the request gets `without`.
    """

    plan: Plan
    label: str  # the policy's name in the metrics
    named: bool  # a policy was asked for, rather than only `forks`
    forks: bool
    threshold: float
    receiver: Receiver
    target: ServedModel
    connectors: ConnectorIds
    traces: list[Trace] = field(default_factory=list)
    tree: Tree | None = None
    response_id: str | None = None
    enrolment: Enrolment | None = None
    otherwise: Part | None = None
    gives_way: bool = False
    without: Part | None = None
    silent: bool = False
    prompt_tokens: int = 0
    stops: frozenset[int] = frozenset()  # the tokens that end an answer
    name: str | None = None  # of the response, as the engine knows it before there is one
    prompt: Sequence[int] = ()  # of the choices that are opened next
    endings: list[str] = field(default_factory=list)  # how choices finished
    spans: RequestSpans | None = None  # where vLLM's spans go, when somebody wants them
    names: dict[str, Trace] = field(default_factory=dict)  # by the engine's request, for the spans

    @property
    def growing(self) -> Rule | None:
        """The rule by which the request grows a tree, if it does."""
        return None if self.plan.policy.shadow else self.plan.policy.growing

    @property
    def reported(self) -> int:
        """How many likeliest tokens the worker tells of at each position."""
        if self.growing is None:
            return ALTERNATIVES if self.forks else 0
        return ALTERNATIVES if isinstance(self.growing.growing, Probe | Resume) else BRANCH_ALTERNATIVES

    @property
    def arm(self) -> str:
        """`EXPERIMENT/ARM`, empty outside of experiments."""
        return "" if self.enrolment is None else self.enrolment.label

    @property
    def headers(self) -> dict[str, str]:
        """What the response's headers say of it."""
        policy = {"X-Forkpoint-Policy": self.plan.policy.name} if self.named else {}
        return {**policy, **({"X-Forkpoint-Arm": self.arm} if self.arm else {})}

    def withdraw(self) -> None:
        """Leave the experiment, before anything was generated."""
        assert self.enrolment is not None
        metrics.INELIGIBLE.labels(self.enrolment.live.stored.name, "policy").inc()
        self.enrolment = None
        self._become(self.otherwise)

    def give_way(self) -> None:
        """Do without the server's default policy, before anything was generated."""
        self._become(self.without)

    def _become(self, part: Part | None) -> None:
        if part is None:
            self.silent = True
        else:
            self.plan, self.label, self.named = part

    def begins(self, name: str, prompt: Sequence[int]) -> None:
        """Note the prompt that is generated from next, and what the first one's request is called."""
        self.name = self.name or name
        self.prompt = prompt

    def finished(self, reason: str) -> None:
        """Count a choice that has ended."""
        self.endings.append(reason)
        metrics.REQUESTS.labels(self.label, self.arm, reason).inc()

    def open(self, choices: int, begun: int = 0) -> list[Trace]:
        """Traces for the choices of one more prompt, or for one more answer that goes on with `begun` tokens of another."""
        grows = self.growing.growing if self.growing is not None else None
        kept = BRANCH_ALTERNATIVES if isinstance(grows, Branch) else min(ALTERNATIVES, self.reported)
        opened = [
            self.receiver.open(len(self.traces) + number, begun, self.threshold, kept) for number in range(choices)
        ]
        for trace in opened:
            trace.prompt = self.prompt
        self.traces += opened
        return opened

    def runs_as(self, request_id: str, trace: Trace) -> None:
        """An engine request begins that generates the tokens of a trace."""
        if self.spans is not None:
            self.names[request_id] = trace
            self.spans.expect(request_id)

    def generated(self) -> int | None:
        """What a tree's answers cost in tokens, each shared one once; None without a tree, of which vLLM's own count is right."""
        return None if self.tree is None else self.tree.generated

    async def settle(self) -> None:
        """Wait, not for long, until the records of all tokens are here."""
        await self.receiver.settle(self.traces)

    def close(self) -> None:
        """Count what happened, once, and let go of the traces."""
        for trace in self.traces:
            self._count(trace)
        for node in self.tree.nodes if self.tree is not None else ():
            if node.kind == "answer" and node.ended in ("stop", "length"):
                metrics.REASONING.labels(self.label).observe(self._reasoning_on(node))
        self.receiver.close(self.traces)

    def summary(self) -> dict[str, Any]:
        """The `forkpoint` object of the response."""
        profiles = [trace.profile() for trace in self.traces]
        entropy = np.concatenate([profile.entropy for profile in profiles]) if profiles else np.zeros(0, np.float32)
        planning = entropy > self.threshold
        told: dict[str, Any] = {
            "policy": self.plan.policy.name if self.named else None,
            "digest": self.plan.digest if self.named else None,
            "shadow": self.named and self.plan.policy.shadow,
            "experiment": None if self.enrolment is None else self.enrolment.live.stored.name,
            "arm": None if self.enrolment is None else self.enrolment.arm.name,
            "tokens": sum(len(trace.tokens) for trace in self.traces) if self.tree is None else self.tree.generated,
            "forks": int(planning.sum()),
            "mean_entropy": _mean(entropy),
            "mean_entropy_forks": _mean(entropy[planning]),
            "mean_entropy_execution": _mean(entropy[~planning]),
            "threshold": self.threshold,
            "reasoning_tokens": sum(map(self._reasoning_tokens, self.traces, profiles)),
            "interventions": self._interventions(profiles) if self.named else {},
            "left_alone": sum(int(profile.left_alone.sum()) for profile in profiles),
            "forced": sum(int(profile.forced.sum()) for profile in profiles),
            "refused": sum(int(profile.refused.sum()) for profile in profiles),
            "branches": 0 if self.tree is None else self.tree.answers - 1,
            "tokens_shared": 0 if self.tree is None else self.tree.shared,
            "complete": not any(trace.missing for trace in self.traces),
        }
        if self.forks:
            told["fork_points"] = fork_points(self, profiles)
        return told

    def recorded(self) -> dict[str, Any]:
        """What is kept of a request of an experiment."""
        assert self.enrolment is not None
        told = self.summary()
        measures = (
            "tokens",
            "reasoning_tokens",
            "forks",
            "mean_entropy",
            "mean_entropy_forks",
            "mean_entropy_execution",
        )
        triggered = self.enrolment.watch.triggered(trace.profile() for trace in self.traces)
        watch = {"triggered": triggered, "watched": self.enrolment.watch.watched}
        return {"prompt_tokens": self.prompt_tokens, **watch, **{name: told[name] for name in measures}}

    def report(self) -> dict[str, Any]:
        """The whole trace, as `GET /v1/forks/{request_id}` tells it."""
        return report(self)

    def _interventions(self, profiles: list[Profile]) -> dict[str, dict[str, float]]:
        told: dict[str, dict[str, float]] = {action: {"fired": 0, "effect": 0.0} for action in self.plan.actions}
        for profile in profiles:
            for rule, action in enumerate(self.plan.actions[: profile.fired.shape[1]]):
                told[action]["fired"] += int(profile.fired[:, rule].sum())
                told[action]["effect"] += float(profile.effect[:, rule].sum())
        return {action: {"fired": one["fired"], "effect": round(one["effect"], 4)} for action, one in told.items()}

    def _reasoning_tokens(self, trace: Trace, profile: Profile) -> int:
        """As vLLM counts them: without the marker that ends the reasoning."""
        ends = np.array(trace.tokens, np.int64)[profile.position - trace.begun] == self.plan.program.reasoning_end
        return int((profile.in_reasoning & ~ends).sum())

    def _reasoning_on(self, node: Node) -> int:
        """The reasoning of a tree's answer, with what it shares: what was written until it ended."""
        tokens, end, first = (
            node.tokens(),
            self.plan.program.reasoning_end,
            node.path()[0].trace.profile().in_reasoning[:1],
        )
        if not first.all():
            return 0
        return tokens.index(end) if end in tokens else len(tokens)

    def _count(self, trace: Trace) -> None:
        label, profile = self.label, trace.profile()
        if trace.ended:  # what comes after a client has left is not waited for
            metrics.DROPPED.inc(trace.missing)
        planning = profile.entropy > self.threshold
        for role, chosen in (("planning", planning), ("execution", ~planning)):
            metrics.TOKENS.labels(label, role).inc(int(chosen.sum()))
            histogram = metrics.ENTROPY.labels(label, role)
            for nats in profile.entropy[chosen].tolist():
                histogram.observe(nats)
        for family, times in self.connectors.count(trace.tokens).items():
            metrics.CONNECTORS.labels(label, family).inc(times)
        if self.tree is None and trace.ended:
            metrics.REASONING.labels(label).observe(self._reasoning_tokens(trace, profile))
        for rule, action in enumerate(self.plan.actions[: profile.fired.shape[1]] if self.named else []):
            families = _families(self.plan.policy, self.plan.program.rules[rule].number)
            metrics.INTERVENTIONS.labels(label, action, families).inc(int(profile.fired[:, rule].sum()))
            metrics.EFFECT.labels(label, action).inc(float(profile.effect[:, rule].sum()))


def _families(policy: Policy, rule: int) -> str:
    """The connector families that a rule acts on, as one bounded label."""
    do = policy.rules[rule].do
    do = do.control.like.do if do.control is not None else do
    named = do.suppress or do.amplify
    return "+".join(sorted(set(named.connectors))) if named is not None else ""


def _mean(values: np.ndarray) -> float | None:
    return round(float(values.mean()), 4) if values.size else None
