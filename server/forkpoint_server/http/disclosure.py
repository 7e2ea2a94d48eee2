"""What a response shows of its policy and its experiment.

Who names a policy, or asks for `forks` or `policy_logprobs`, sees both. In an experiment a client that did neither
gets what stock vLLM sends in every arm, so that nothing but the text depends on the arm; an operator can have the
arms shown.
"""

from __future__ import annotations

from forkpoint_server.requests.context import RequestContext

from .event_stream import HEADERS


def shows_summary(context: RequestContext, show_arms: bool) -> bool:
    """Whether the response has the `forkpoint` object. An arm without a policy has none even where arms are shown."""
    if context.inactive:
        return False
    if context.enrolment is None or context.options.forks or context.options.policy_logprobs:
        return True
    return show_arms and context.enrolment.arm.labeled is not None


def headers_of(context: RequestContext, show_arms: bool, streams: bool) -> dict[str, str]:
    """The headers to add to the response; `streams`: it is an event stream."""
    shows = shows_summary(context, show_arms)
    if context.inactive or not (shows or show_arms):
        return {}
    policy = {"X-Forkpoint-Policy": context.compiled.policy.name} if context.compiled.is_named else {}
    arm = {"X-Forkpoint-Arm": context.arm} if context.arm else {}
    missing = context.missing_choices
    choices = {"X-Forkpoint-Choices": missing} if missing is not None and shows else {}
    return {**policy, **arm, **choices, **(HEADERS if streams and shows else {})}


def shows_silence(context: RequestContext, show_arms: bool) -> bool:
    """Whether a stream has signs of life: where several answers are generated before the first is sent."""
    return context.tree_rule is not None and shows_summary(context, show_arms)
