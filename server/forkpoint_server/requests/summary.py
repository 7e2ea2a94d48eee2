"""The figures of a request: for its response, the metrics, its spans and the database."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes
from opentelemetry.util.types import AttributeValue

from forkpoint_policies.spec import Policy
from forkpoint_policies.worker.record_sums import EXECUTION, NOTHING, PLANNING, RecordSums, add_up
from forkpoint_server import metrics
from forkpoint_server.store.built_in_metrics import SUMMARY_COLUMNS
from forkpoint_server.traces.hidden_signals import READOUT, by_name
from forkpoint_server.traces.trace import Trace
from forkpoint_server.tracing import CONVENTIONAL, OF_ALL, RequestSpans, span_attributes

from .context import Reported, RequestContext
from .tree import Node, shortened


def summary(context: Reported) -> dict[str, Any]:
    """The figures of the response's `forkpoint` object."""
    applied, tree = context.applied, context.tree
    sums = add_up([trace.sums(context.fork_threshold) for trace in context.traces] or [NOTHING])
    tokens, entropy = sums.tokens[0], sums.entropy[0]
    return {
        "model": context.model_name,
        "policy": applied.name,
        "digest": applied.digest,
        "shadow": applied.shadow,
        "experiment": context.experiment,
        "arm": context.arm_name,
        "tokens": sum(len(trace.tokens) for trace in context.traces) if tree is None else tree.num_generated_tokens,
        "forks": int(tokens[PLANNING]),
        "mean_entropy": _mean(entropy.sum(), tokens.sum()),
        "mean_entropy_forks": _mean(entropy[PLANNING], tokens[PLANNING]),
        "mean_entropy_execution": _mean(entropy[EXECUTION], tokens[EXECUTION]),
        "threshold": context.fork_threshold,
        "reasoning_tokens": sum(trace.num_reasoning_tokens for trace in context.traces),
        "interventions": _interventions(applied.actions, sums),
        "left_alone": int(sums.left_alone[0]),
        "forced": int(sums.forced[0]),
        "refused": int(sums.refused[0]),
        "branches": 0 if tree is None else tree.num_answers - 1,
        "tokens_shared": 0 if tree is None else tree.num_shared_tokens,
        "answers": [] if tree is None else [_answer(node) for node in tree.nodes if node.kind == "answer"],
        **_hidden(context),
        "complete": not any(trace.num_missing for trace in context.traces),
        "warnings": list(context.warnings),
    }


def _hidden(context: Reported) -> dict[str, Any]:
    """Of policies with a condition on hidden states, the mean of each signal over the tokens where it is known."""
    names = context.applied.signals
    if not context.traces or not any(names):
        return {}
    signals = by_name(names, np.concatenate([trace.profile().hidden for trace in context.traces]))
    known = {name: column[np.isfinite(column)] for name, column in signals.items()}
    means = {name: _mean(column.sum(dtype=np.float64), len(column)) for name, column in known.items()}
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
        "triggered": detector.triggered(trace.sums(context.fork_threshold).fired[0] for trace in context.traces),
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
    compiled, sums = context.compiled, trace.sums(context.fork_threshold)
    labels = context.model_name, compiled.label
    if trace.ended and context.settled:  # of a request that failed or was left, the last records are not waited for
        metrics.DROPPED.labels(context.model_name).inc(trace.num_missing)

    # tokens and entropy, by role
    for name, role in (("planning", PLANNING), ("execution", EXECUTION)):
        metrics.TOKENS.labels(*labels, name).inc(int(sums.tokens[0, role]))
        entropy = metrics.ENTROPY.labels(*labels, name)
        metrics.observe_counts(entropy, sums.buckets[0, role], float(sums.entropy[0, role]))

    # hidden states
    signals = context.applied.signals
    for name, column in by_name(signals, trace.profile().hidden).items() if any(signals) else ():
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
    for rule, action in enumerate(compiled.actions[: sums.fired.shape[1]] if compiled.is_named else []):
        families = _connector_families(compiled.policy, compiled.program.rules[rule].number)
        metrics.INTERVENTIONS.labels(*labels, action, families).inc(int(sums.fired[0, rule]))
        metrics.EFFECT.labels(*labels, action).inc(float(sums.effect[0, rule]))


def _interventions(actions: Sequence[str], sums: RecordSums) -> dict[str, dict[str, float]]:
    """By action, how often its rules fired, and their summed effect."""
    found: dict[str, dict[str, float]] = {action: {"fired": 0, "effect": 0.0} for action in actions}
    for rule, action in enumerate(actions[: sums.fired.shape[1]]):
        found[action]["fired"] += int(sums.fired[0, rule])
        found[action]["effect"] += float(sums.effect[0, rule])
    return {
        action: {"fired": totals["fired"], "effect": round(totals["effect"], 4)} for action, totals in found.items()
    }


def _connector_families(policy: Policy, rule: int) -> str:
    """The connector families that a rule acts on, as one bounded label."""
    do = policy.rules[rule].original.do
    tokens = do.suppress or do.amplify
    return "+".join(sorted(set(tokens.connectors))) if tokens is not None else ""


def _mean(total: float, count: int) -> float | None:
    return round(float(total / count), 4) if count else None
