"""The log probabilities that a request with `policy_logprobs` gets: for each choice of its response, and each trace."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from forkpoint_server.traces.trace import Trace

from .context import Reported
from .tree import Node

BRANCH = "branch"
DECIMALS = 6


@dataclass
class ScoredTokens:
    """Consecutive tokens, [n] each, in nats.

    `policy_logprobs` are of the distribution that was sampled from, `logprobs` of the model's own at temperature 1;
    None where they were lost or are not known. `written`: whether the policy wrote the token, so that none was sampled.
    """

    token_ids: list[int] = field(default_factory=list)
    policy_logprobs: list[float | None] = field(default_factory=list)
    logprobs: list[float | None] = field(default_factory=list)
    written: list[bool] = field(default_factory=list)

    def cut(self, length: int) -> None:
        """Remove the tokens from an index on."""
        for values in (self.token_ids, self.policy_logprobs, self.logprobs, self.written):
            del values[length:]

    def add(self, token: int, policy_logprob: float | None, logprob: float | None, written: bool) -> None:
        self.token_ids.append(token)
        self.policy_logprobs.append(policy_logprob)
        self.logprobs.append(logprob)
        self.written.append(written)

    def extend(self, trace: Trace) -> None:
        """Add a trace's tokens."""
        profile, raw = trace.profile(), trace.raw_logprobs
        forced = set(profile.position[profile.forced].tolist())
        for index, (token, nats) in enumerate(zip(trace.tokens, trace.policy_logprobs(), strict=True)):
            own = raw[index] if index < len(raw) else None
            self.add(token, nats, own, trace.first_position + index in forced)

    def to_dict(self) -> dict[str, Any]:
        return {
            "policy_logprobs": _rounded(self.policy_logprobs),
            "logprobs": _rounded(self.logprobs),
            "written": [index for index, written in enumerate(self.written) if written],
        }


def choices_to_dicts(context: Reported) -> list[dict[str, Any]]:
    """For each choice of the response, its tokens and their log probabilities."""
    if context.tree is None:
        scored = [(trace.choice, _of_trace(trace)) for trace in context.traces]
    else:
        returned = [node for node in context.tree.nodes if node.choice is not None]
        branches = BRANCH in context.applied.actions  # else an answer starts with a text of the policy
        scored = [(node.choice or 0, _of_node(node, branches)) for node in returned]
    return [
        {"index": index, "token_ids": one.token_ids, **one.to_dict()}
        for index, one in sorted(scored, key=lambda pair: pair[0])
    ]


def trace_to_logprobs(trace: Trace) -> dict[str, Any]:
    """The log probabilities of a trace's own tokens; null where the request did not want them."""
    found = _of_trace(trace).to_dict()
    if trace.logprobs is None:
        found["policy_logprobs"] = None
    if not trace.raw_logprobs:
        found["logprobs"] = None
    return found


def _of_trace(trace: Trace) -> ScoredTokens:
    scored = ScoredTokens()
    scored.extend(trace)
    return scored


def _of_node(node: Node, branches: bool) -> ScoredTokens:
    """The whole answer: what it shares, the tokens that it starts with, and its own."""
    scored = ScoredTokens()
    for one in node.path():
        scored.cut(one.position)
        for offset, token in enumerate(one.forced_tokens):
            chosen = branches and one.parent is not None and not offset
            nats, raw = _of_alternative(one, token) if chosen else (0.0, None)
            scored.add(token, nats, raw, written=True)
        scored.extend(one.trace)
    return scored


def _of_alternative(node: Node, token: int) -> tuple[float | None, float | None]:
    """The first token of a branch, in its parent's distribution: as sampled from, and the model's own."""
    assert node.parent is not None
    trace = node.parent.trace
    found = trace.alternatives(node.position)
    shares = {} if found is None else dict(zip(found.tokens, found.probabilities, strict=True))
    nats = None if trace.logprobs is None else trace.logprobs.of(node.position, token)
    return nats, math.log(shares[token]) if shares.get(token) else None


def _rounded(values: Sequence[float | None]) -> list[float | None]:
    """JSON has no infinity: a token that could not be sampled, as a branch may write, has None."""
    return [None if nats is None or math.isinf(nats) else round(nats, DECIMALS) for nats in values]
