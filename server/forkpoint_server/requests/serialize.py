"""What is told of a request's tokens: all of it once it has ended, or what is new of one that runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from forkpoint_server.traces.detokenize import Texts
from forkpoint_server.traces.trace import MIN_EFFECT, Alternatives, Profile, Trace

if TYPE_CHECKING:
    from .context import RequestContext
    from .tree import Node

OBSERVE = "observe"


def report(intervention: RequestContext) -> dict[str, Any]:
    """The whole trace, as `GET /v1/forks/{request_id}` tells it."""
    traces = intervention.traces
    profiles = [trace.profile() for trace in traces]
    tree, texts = intervention.tree, Texts(intervention.target.vocabulary)
    return {
        **heading(intervention),
        "object": "trace",
        "choices": [
            choice_to_dict(intervention, trace, profile, 0) for trace, profile in zip(traces, profiles, strict=True)
        ],
        "fork_points": fork_points(intervention, profiles),
        "intervention_points": [
            point
            for trace, profile in zip(traces, profiles, strict=True)
            for point in changed_tokens(intervention, trace, profile)
        ],
        "tree": None if tree is None else tree.told(texts.one),
        "forkpoint": intervention.summary(),
    }


def heading(intervention: RequestContext) -> dict[str, Any]:
    """What is known from the beginning."""
    plan, texts = intervention.plan, Texts(intervention.target.vocabulary)
    return {
        "id": intervention.response_id or intervention.name,
        "object": "trace.begun",
        "policy": plan.policy.name if intervention.named else None,
        "digest": plan.digest if intervention.named else None,
        "shadow": intervention.named and plan.policy.shadow,
        "threshold": intervention.threshold,
        "prompts": [
            {"token_ids": list(prompt), "text": texts.whole(prompt)} for prompt in _prompts(intervention.traces)
        ],
        "stop_token_ids": sorted(intervention.stops),
    }


def fork_points(intervention: RequestContext, profiles: Iterable[Profile]) -> list[dict[str, Any]]:
    """The tokens above the fork threshold."""
    return [
        point
        for trace, profile in zip(intervention.traces, profiles, strict=True)
        for point in forks_to_dicts(intervention, trace, profile)
    ]


def alternatives_told(found: Alternatives | None, text: Callable[[int], str]) -> list[dict[str, Any]]:
    """The likeliest tokens; not `possible` are those that the policy took away."""
    if found is None:
        return []
    return [
        {"token": text(token), "token_id": token, "probability": round(abs(signed), 4), "possible": signed > 0}
        for token, signed in zip(found.tokens, found.signed, strict=True)
    ]


def _prompts(traces: Iterable[Trace]) -> list[Sequence[int]]:
    """Each once: the choices of one share it."""
    return list({id(trace.prompt): trace.prompt for trace in traces}.values())


def choice_to_dict(intervention: RequestContext, trace: Trace, profile: Profile, told: int) -> dict[str, Any]:
    """The tokens after so many, and these records."""
    tokens, texts = trace.tokens[told:], Texts(intervention.target.vocabulary)
    return {
        "index": trace.choice,
        "prompt": [id(prompt) for prompt in _prompts(intervention.traces)].index(id(trace.prompt)),
        "begun": trace.begun,
        "told": told,
        "token_ids": tokens,
        "tokens": [texts.one(token) for token in tokens],
        "token_bytes": texts.parts(tokens, told),
        "positions": profile.position.tolist(),
        "entropies": [round(nats, 5) for nats in profile.entropy.tolist()],
        "in_reasoning": profile.in_reasoning.tolist(),
        "actions": _fired(intervention, profile),
    }


def _fired(intervention: RequestContext, profile: Profile) -> list[list[str]]:
    """The actions that fired at each place of the profile; none when no policy was asked for."""
    found: list[list[str]] = [[] for _ in profile.position]
    if intervention.named:
        for place, rule in zip(*(axis.tolist() for axis in profile.fired.nonzero()), strict=True):
            found[place].append(intervention.plan.actions[rule])
    return found


def forks_to_dicts(intervention: RequestContext, trace: Trace, profile: Profile) -> list[dict[str, Any]]:
    return _points(intervention, trace, profile, (profile.entropy > intervention.threshold).nonzero()[0].tolist())


def changed_tokens(intervention: RequestContext, trace: Trace, profile: Profile) -> list[dict[str, Any]]:
    """The tokens at which the policy had an effect."""
    if not intervention.named:
        return []
    return _points(
        intervention, trace, profile, (profile.effect.max(axis=1, initial=0.0) >= MIN_EFFECT).nonzero()[0].tolist()
    )


def _points(
    intervention: RequestContext, trace: Trace, profile: Profile, places: Iterable[int]
) -> list[dict[str, Any]]:
    texts, points, actions = Texts(intervention.target.vocabulary), [], _fired(intervention, profile)
    for place in places:
        index = int(profile.position[place])
        token, fired = trace.tokens[index - trace.begun], actions[place]
        points.append(
            {
                "choice": trace.choice,
                "index": index,
                "token": texts.one(token),
                "entropy": round(float(profile.entropy[place]), 4),
                "connector": intervention.connectors.family(token),
                "alternatives": alternatives_told(profile.alternatives.get(index), texts.one),
                "action": next((action for action in fired if action != OBSERVE), fired[0] if fired else None),
                "effect": round(float(profile.effect[place].max(initial=0.0)), 4) if intervention.named else 0.0,
            }
        )
    return points


def state_of(node: Node) -> tuple[Any, ...]:
    """What of a node may change while it grows."""
    parent = node.parent
    passed = parent is not None and node.position < parent.length
    return len(node.trace.tokens), node.delay, node.finish_reason, node.ended, node.chosen, passed
