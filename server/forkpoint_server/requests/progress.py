"""What changes in a request's context while the engine runs it."""

from __future__ import annotations

from typing import Protocol

from forkpoint_policies.spec import MAX_ALTERNATIVES, Branch, Probe, Resume
from forkpoint_server import metrics
from forkpoint_server.traces.logprobs import PolicyLogprobs
from forkpoint_server.traces.replaced_tokens import ReplacedTokens
from forkpoint_server.traces.trace import Trace

from .context import RequestContext

ALTERNATIVES = 5
"""How many of the likeliest tokens a trace shows at a position."""
BRANCH_ALTERNATIVES = MAX_ALTERNATIVES
"""How many of the likeliest tokens a branch chooses from, and confidence is averaged over."""


def leave_experiment(context: RequestContext) -> None:
    """Continue without the experiment, before anything was generated."""
    assert context.enrolment is not None
    metrics.INELIGIBLE.labels(context.model_name, context.enrolment.live.stored.name, "policy").inc()
    context.enrolment = None
    if context.without_experiment is None:
        context.inactive = True
    else:
        context.compiled = context.without_experiment


def drop_default_policy(context: RequestContext) -> None:
    """Continue without the server's default policy, before anything was generated."""
    if context.fallback is None:
        context.inactive = True
    else:
        context.compiled = context.fallback


def num_alternatives(context: RequestContext) -> int:
    """How many of the likeliest tokens the worker reports at each position."""
    rule = context.tree_rule
    if rule is None:
        return ALTERNATIVES if context.options.forks else 0
    action = rule.tree_action
    looks_at_all = isinstance(action, Probe) and (
        action.end_of_reasoning_within is not None or action.step_entropy_bits_at_most is not None
    )
    few = isinstance(action, Probe | Resume) and not looks_at_all
    return ALTERNATIVES if few else BRANCH_ALTERNATIVES


class StartState(Protocol):
    """Where a choice starts: a state of the word automaton, and states of compile.regions as in AnswerStart."""

    @property
    def word_state(self) -> int: ...
    @property
    def region(self) -> int: ...
    @property
    def counted(self) -> int: ...


def open_traces(
    context: RequestContext, num_choices: int, start: StartState, num_shared_tokens: int = 0
) -> list[Trace]:
    """Open traces for the choices of one more prompt, or for a branch that shares its first tokens with its parent."""
    rule = context.tree_rule
    branches = rule is not None and isinstance(rule.tree_action, Branch)
    num_stored = BRANCH_ALTERNATIVES if branches else min(ALTERNATIVES, num_alternatives(context))
    first = len(context.traces)
    opened = [
        context.receiver.open(first + number, num_shared_tokens, context.fork_threshold, num_stored)
        for number in range(num_choices)
    ]
    for trace in opened:
        trace.prompt = context.prompt
        trace.logprobs = PolicyLogprobs() if context.options.policy_logprobs else None
        trace.start_in(context.model.regions, start.region, start.counted)
        trace.replaced = ReplacedTokens.of(context.compiled.program, start.word_state)
    context.traces += opened
    return opened


def start_engine_request(context: RequestContext, request_id: str, trace: Trace) -> None:
    """Note which engine request generates the tokens of a trace, so that its span can be completed."""
    if context.spans is not None:
        context.traces_by_engine_id[request_id] = trace
        context.spans.expect(request_id)


def finish_choice(context: RequestContext, reason: str) -> None:
    """Count a choice that has ended."""
    context.finish_reasons.append(reason)
    metrics.REQUESTS.labels(context.model_name, context.compiled.label, context.arm, reason).inc()
