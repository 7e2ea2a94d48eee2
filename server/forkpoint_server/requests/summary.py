"""The figures of a request: for its response, the metrics, its spans and the database."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes
from opentelemetry.util.types import AttributeValue

from forkpoint_policies.spec import Policy
from forkpoint_server import metrics
from forkpoint_server.store.built_in_metrics import SUMMARY_COLUMNS
from forkpoint_server.traces.hidden_signals import READOUT, by_name
from forkpoint_server.traces.profile import Profile
from forkpoint_server.traces.trace import Trace
from forkpoint_server.tracing import CONVENTIONAL, OF_ALL, RequestSpans, span_attributes

from .context import Reported, RequestContext
from .tree import Node, shortened


def summary(context: Reported) -> dict[str, Any]:
    """The figures of the response's `forkpoint` object."""
    applied, tree = context.applied, context.tree
    profiles = [trace.profile() for trace in context.traces]
    entropy = np.concatenate([profile.entropy for profile in profiles]) if profiles else np.zeros(0, np.float32)
    planning = entropy > context.fork_threshold
    return {
        "model": context.model_name,
        "policy": applied.name,
        "digest": applied.digest,
        "shadow": applied.shadow,
        "experiment": context.experiment,
        "arm": context.arm_name,
        "tokens": sum(len(trace.tokens) for trace in context.traces) if tree is None else tree.num_generated_tokens,
        "forks": int(planning.sum()),
        "mean_entropy": _mean(entropy),
        "mean_entropy_forks": _mean(entropy[planning]),
        "mean_entropy_execution": _mean(entropy[~planning]),
        "threshold": context.fork_threshold,
        "reasoning_tokens": sum(trace.num_reasoning_tokens for trace in context.traces),
        "interventions": _interventions(applied.actions, profiles),
        "left_alone": sum(int(profile.left_alone.sum()) for profile in profiles),
        "forced": sum(int(profile.forced.sum()) for profile in profiles),
        "refused": sum(int(profile.refused.sum()) for profile in profiles),
        "branches": 0 if tree is None else tree.num_answers - 1,
        "tokens_shared": 0 if tree is None else tree.num_shared_tokens,
        "answers": [] if tree is None else [_answer(node) for node in tree.nodes if node.kind == "answer"],
        **_hidden(profiles, applied.signals),
        "complete": not any(trace.num_missing for trace in context.traces),
        "warnings": list(context.warnings),
    }


def _hidden(profiles: Sequence[Profile], names: Sequence[str]) -> dict[str, Any]:
    """Of policies with a condition on hidden states, the mean of each signal over the tokens where it is known."""
    if not profiles:
        return {}
    signals = by_name(names, np.concatenate([profile.hidden for profile in profiles]))
    means = {name: _mean(column[np.isfinite(column)]) for name, column in signals.items()}
    return {"hidden": means} if means else {}


def _answer(node: Node) -> dict[str, Any]:
    """What a leaf of a tree says, as votes compare it, and which choice of the response it is, if any."""
    return {"index": node.number, "choice": node.choice, "answer": shortened(node.answer)}


def num_generated_tokens(context: RequestContext) -> int | None:
    """The tokens of a tree's answers, shared ones counted once; None without a tree: vLLM's own count is right."""
    return None if context.tree is None else context.tree.num_generated_tokens


def experiment_record(context: RequestContext) -> dict[str, Any]:
    """What is recorded of the tokens of a request of an experiment."""
    assert context.enrolment is not None
    figures, detector = summary(context), context.enrolment.detector
    return {
        "prompt_tokens": context.num_prompt_tokens,
        "triggered": detector.triggered(trace.profile() for trace in context.traces),
        "watched": detector.observed_arms,
        "effect": sum((action["effect"] for action in figures["interventions"].values()), 0.0),
        **{name: figures[name] for name in SUMMARY_COLUMNS},
    }


def count_in_metrics(context: RequestContext) -> None:
    """Add a finished request to the metrics, once."""
    labels, tree = (context.model_name, context.compiled.label), context.tree
    for trace in context.traces:
        _count_trace(context, trace)
    for node in tree.nodes if tree is not None else ():
        if node.kind == "answer" and node.ended in ("stop", "length"):
            metrics.REASONING.labels(*labels).observe(node.regions.num_reasoning_tokens)


def release_spans(context: RequestContext, spans: RequestSpans) -> str | None:
    """Complete the spans of a finished request and let them be exported. Returns their OpenTelemetry trace's id."""
    figures = summary(context)
    trace_id = None
    for request_id, trace in context.traces_by_engine_id.items():
        attributes: dict[str, AttributeValue] = {"forkpoint.choice": trace.choice}
        if context.response_id is not None:
            attributes[gen_ai_attributes.GEN_AI_RESPONSE_ID] = context.response_id
        if trace is context.traces[0]:
            attributes[gen_ai_attributes.GEN_AI_RESPONSE_FINISH_REASONS] = tuple(context.finish_reasons)
            attributes |= span_attributes(figures) | {name: figures[ours] for name, ours in CONVENTIONAL.items()}
        else:
            attributes |= span_attributes({name: figures[name] for name in OF_ALL})
        trace_id = spans.release(request_id, attributes) or trace_id
    return trace_id


def _count_trace(context: RequestContext, trace: Trace) -> None:
    compiled, profile = context.compiled, trace.profile()
    labels = context.model_name, compiled.label
    if trace.ended and context.settled:  # of a request that failed or was left, the last records are not waited for
        metrics.DROPPED.labels(context.model_name).inc(trace.num_missing)

    # tokens and entropy, by role
    planning = profile.entropy > context.fork_threshold
    for role, chosen in (("planning", planning), ("execution", ~planning)):
        metrics.TOKENS.labels(*labels, role).inc(int(chosen.sum()))
        metrics.observe_all(metrics.ENTROPY.labels(*labels, role), profile.entropy[chosen])

    # hidden states
    for name, column in by_name(context.applied.signals, profile.hidden).items():
        known = column[np.isfinite(column)]
        if name.startswith(READOUT):
            metrics.observe_all(metrics.READOUT.labels(*labels, name.removeprefix(READOUT)), known)
        elif name == "effective_rank":
            metrics.observe_all(metrics.EFFECTIVE_RANK.labels(*labels), known)

    # connectors and reasoning
    for family, times in context.connectors.count(trace.tokens).items():
        metrics.CONNECTORS.labels(*labels, family).inc(times)
    if context.tree is None and trace.ended:
        metrics.REASONING.labels(*labels).observe(trace.num_reasoning_tokens)

    # interventions, by rule
    for rule, action in enumerate(compiled.actions[: profile.fired.shape[1]] if compiled.is_named else []):
        families = _connector_families(compiled.policy, compiled.program.rules[rule].number)
        metrics.INTERVENTIONS.labels(*labels, action, families).inc(int(profile.fired[:, rule].sum()))
        metrics.EFFECT.labels(*labels, action).inc(float(profile.effect[:, rule].sum()))


def _interventions(actions: Sequence[str], profiles: Sequence[Profile]) -> dict[str, dict[str, float]]:
    """By action, how often its rules fired, and their summed effect."""
    found: dict[str, dict[str, float]] = {action: {"fired": 0, "effect": 0.0} for action in actions}
    for profile in profiles:
        for rule, action in enumerate(actions[: profile.fired.shape[1]]):
            found[action]["fired"] += int(profile.fired[:, rule].sum())
            found[action]["effect"] += float(profile.effect[:, rule].sum())
    return {
        action: {"fired": totals["fired"], "effect": round(totals["effect"], 4)} for action, totals in found.items()
    }


def _connector_families(policy: Policy, rule: int) -> str:
    """The connector families that a rule acts on, as one bounded label."""
    do = policy.rules[rule].original.do
    tokens = do.suppress or do.amplify
    return "+".join(sorted(set(tokens.connectors))) if tokens is not None else ""


def _mean(values: np.ndarray) -> float | None:
    return round(float(values.mean()), 4) if values.size else None
