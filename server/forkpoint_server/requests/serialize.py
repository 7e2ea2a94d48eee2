"""A request's tokens and tree as JSON: the whole trace once it has ended, or what is new while it runs."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from forkpoint_server.traces.detokenize import Detokenizer
from forkpoint_server.traces.hidden_signals import SignalBounds, by_name
from forkpoint_server.traces.likeliest import Alternatives
from forkpoint_server.traces.profile import Profile
from forkpoint_server.traces.trace import MIN_EFFECT, Trace

from .context import Reported, RequestContext
from .reports import report_to_json
from .sampled_logprobs import choices_to_dicts, trace_to_logprobs
from .summary import summary
from .tree import Node, Tree, shortened

OBSERVE = "observe"
MAX_TOKENS_AT_ONCE = 4_000
"""Whose figures take the event loop a few milliseconds."""


def trace_to_dict(context: Reported) -> dict[str, Any]:
    """The whole trace, as `GET /v1/forks/{request_id}` returns it."""
    profiles, prompts = [trace.profile() for trace in context.traces], number_prompts(context.traces)
    texts = Detokenizer(context.vocabulary)
    return {
        **heading_to_dict(context),
        "object": "trace",
        "choices": [
            {**choice_to_dict(context, trace, profile, prompts), **trace_to_logprobs(trace)}
            for trace, profile in zip(context.traces, profiles, strict=True)
        ],
        "fork_points": _all_fork_points(context, profiles),
        "intervention_points": [
            point
            for trace, profile in zip(context.traces, profiles, strict=True)
            for point in intervention_points(context, trace, profile)
        ],
        "tree": None if context.tree is None else tree_to_dict(context.tree, texts),
        "forkpoint": summary_to_dict(context),
    }


async def summarise_request(context: RequestContext) -> bytes:
    """The JSON of the response's `forkpoint` object: from a thread where many tokens would hold up other requests."""
    lists_tokens = context.options.forks or context.options.policy_logprobs
    if not lists_tokens or sum(len(trace.tokens) for trace in context.traces) <= MAX_TOKENS_AT_ONCE:
        return report_to_json(summary_to_dict(context))
    return await asyncio.to_thread(lambda: report_to_json(summary_to_dict(context)))


def summary_to_dict(context: Reported) -> dict[str, Any]:
    """The `forkpoint` object of the response."""
    figures = summary(context)
    if context.options.forks:
        figures["fork_points"] = _all_fork_points(context, [trace.profile() for trace in context.traces])
    if context.options.policy_logprobs:
        figures["choices"] = choices_to_dicts(context)
    return figures


def heading_to_dict(context: Reported) -> dict[str, Any]:
    """What is known from the start: the first event of a trace's stream."""
    applied, texts = context.applied, Detokenizer(context.vocabulary)
    return {
        "id": context.response_id or context.engine_id,
        "object": "trace.begun",
        "policy": applied.name,
        "digest": applied.digest,
        "shadow": applied.shadow,
        "threshold": context.fork_threshold,
        "prompts": [
            {"token_ids": list(prompt), "text": texts.text(prompt)} for prompt in _distinct_prompts(context.traces)
        ],
        "stop_token_ids": sorted(context.stop_tokens),
        **_hidden_bounds(applied.bounds),
    }


def choice_to_dict(
    context: Reported,
    trace: Trace,
    profile: Profile,
    prompts: Mapping[int, int],
    num_sent: int = 0,
    until: int | None = None,
) -> dict[str, Any]:
    """A choice's tokens after the first `num_sent` and up to `until`, and the records of `profile`.

    `prompts` are the numbers of the request's prompts, from `number_prompts`.
    """
    tokens, texts = trace.tokens[num_sent:until], Detokenizer(context.vocabulary)
    in_reasoning = trace.regions.in_reasoning
    return {
        "index": trace.choice,
        "prompt": prompts[id(trace.prompt)],
        "begun": trace.first_position,
        "told": num_sent,
        "token_ids": tokens,
        "tokens": [texts.token(token) for token in tokens],
        "token_bytes": texts.partial_bytes(tokens, num_sent),
        "positions": profile.position.tolist(),
        "entropies": [round(nats, 5) for nats in profile.entropy.tolist()],
        "in_reasoning": [bool(in_reasoning[one - trace.first_position]) for one in profile.position.tolist()],
        "actions": _fired_actions(context, profile),
        **_hidden(profile, context.applied.signals),
    }


def _hidden(profile: Profile, names: Sequence[str]) -> dict[str, Any]:
    """The signals of hidden states at each position, null where not known; nothing where none is."""
    signals = by_name(names, profile.hidden)
    if not signals:
        return {}
    return {
        "hidden": {
            name: [round(value, 4) if np.isfinite(value) else None for value in column.tolist()]
            for name, column in signals.items()
        }
    }


def _hidden_bounds(bounds: Sequence[SignalBounds]) -> dict[str, Any]:
    """What the policy's rules compare signals of hidden states with; nothing where no rule does."""
    if not bounds:
        return {}
    return {"hidden_bounds": {one.signal: {"above": list(one.above), "below": list(one.below)} for one in bounds}}


def fork_points(context: Reported, trace: Trace, profile: Profile) -> list[dict[str, Any]]:
    """The tokens above the fork threshold."""
    rows = (profile.entropy > context.fork_threshold).nonzero()[0]
    return _points(context, trace, profile, rows.tolist())


def intervention_points(context: Reported, trace: Trace, profile: Profile) -> list[dict[str, Any]]:
    """The tokens at which the policy had an effect."""
    if not context.applied.is_named:
        return []
    rows = (profile.effect.max(axis=1, initial=0.0) >= MIN_EFFECT).nonzero()[0]
    return _points(context, trace, profile, rows.tolist())


def tree_to_dict(tree: Tree, texts: Detokenizer) -> dict[str, Any]:
    """A tree as `GET /v1/forks/{request_id}` returns it."""
    return {
        "extract": tree.extract,
        "nodes": [node_to_dict(node, texts) for node in tree.nodes],
        "generated": tree.num_generated_tokens,
        "shared": tree.num_shared_tokens,
        "stopped": tree.num_stopped,
        "refused": tree.num_refused,
    }


def node_to_dict(node: Node, texts: Detokenizer) -> dict[str, Any]:
    """A node of a tree."""
    parent, text = node.parent, texts.token
    replaced = parent is not None and node.position < parent.length
    return {
        "index": node.number,
        "parent": None if parent is None else parent.number,
        "kind": node.kind,
        "position": None if parent is None else node.position,
        "token": None if parent is None else "".join(map(text, node.forced_tokens)),
        "token_ids": list(node.forced_tokens),
        "tokens": [text(token) for token in node.forced_tokens],
        "instead_of": text(parent.token_at(node.position)) if parent is not None and replaced else None,
        "entropy": None if node.entropy is None else round(node.entropy, 4),
        "alternatives": alternatives_to_dicts(
            None if parent is None else parent.trace.alternatives(node.position), texts
        ),
        "depth": node.depth,
        "tokens_shared": node.position,
        "tokens_generated": len(node.forced_tokens) + len(node.trace.tokens),
        "delay": node.delay,
        "finish_reason": node.finish_reason,
        "ended": node.ended,
        "answer": shortened(node.answer),
        "chosen": node.chosen,
    }


def node_state(node: Node) -> tuple[Any, ...]:
    """What can change in a node's dictionary while the request runs."""
    parent = node.parent
    replaced = parent is not None and node.position < parent.length
    return len(node.trace.tokens), node.delay, node.finish_reason, node.ended, node.answer, node.chosen, replaced


def alternatives_to_dicts(found: Alternatives | None, texts: Detokenizer) -> list[dict[str, Any]]:
    """The likeliest tokens; those that the policy removed are not `possible`."""
    if found is None:
        return []
    return [
        {**texts.to_dict(token), "probability": round(abs(signed), 4), "possible": signed > 0}
        for token, signed in zip(found.tokens, found.signed, strict=True)
    ]


def _all_fork_points(context: Reported, profiles: Iterable[Profile]) -> list[dict[str, Any]]:
    return [
        point
        for trace, profile in zip(context.traces, profiles, strict=True)
        for point in fork_points(context, trace, profile)
    ]


def _points(context: Reported, trace: Trace, profile: Profile, rows: Iterable[int]) -> list[dict[str, Any]]:
    """Tokens with their alternatives and what the policy did to them; `rows` are indices into the profile."""
    texts, points, actions = Detokenizer(context.vocabulary), [], context.applied.actions
    for row in rows:
        index = int(profile.position[row])
        token = trace.tokens[index - trace.first_position]
        fired = [actions[rule] for rule in profile.fired[row].nonzero()[0].tolist()] if actions else []
        effect = float(profile.effect[row].max(initial=0.0)) if actions else 0.0
        points.append(
            {
                "choice": trace.choice,
                "index": index,
                **texts.to_dict(token),
                "entropy": round(float(profile.entropy[row]), 4),
                "connector": context.connectors.family(token),
                "alternatives": alternatives_to_dicts(profile.alternatives.get(index), texts),
                "action": next((action for action in fired if action != OBSERVE), fired[0] if fired else None),
                "effect": round(effect, 4),
            }
        )
    return points


def _fired_actions(context: Reported, profile: Profile) -> list[list[str]]:
    """The actions that fired at each row of the profile; none when the request is only observed."""
    found: list[list[str]] = [[] for _ in profile.position]
    actions = context.applied.actions
    if actions:
        for row, rule in zip(*(axis.tolist() for axis in profile.fired.nonzero()), strict=True):
            found[row].append(actions[rule])
    return found


def number_prompts(traces: Iterable[Trace]) -> dict[int, int]:
    """The number of each distinct prompt, by its id."""
    return {id(prompt): number for number, prompt in enumerate(_distinct_prompts(traces))}


def _distinct_prompts(traces: Iterable[Trace]) -> list[Sequence[int]]:
    """Each prompt once: the choices of one prompt share it."""
    return list({id(trace.prompt): trace.prompt for trace in traces}.values())
