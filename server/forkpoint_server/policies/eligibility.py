"""The routes that generate, and which requests can have which policies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from forkpoint_policies.spec import Branch, InputError, Policy, Sample, TreeAction, returns_several
from forkpoint_server.vllm_seam import SamplingParams, VLLMValidationError

from .compiled import LabeledPolicy
from .resolve import ResolvedRequest

TOKENS = "/inference/v1/generate"
BATCH = "/v1/chat/completions/batch"
GENERATING = ("/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages", TOKENS, BATCH)
WITH_CHOICES = ("/v1/chat/completions", "/v1/completions", TOKENS)
MAX_TOKENS = ("max_completion_tokens", "max_tokens", "max_output_tokens")
"""The fields that limit a request's tokens; the first that is set counts."""

INCOMPATIBLE_OPTIONS = ("use_beam_search", "background")
"""Beam search sends a new engine request for each token; a background response is returned before it is generated."""


def eligible_policy(path: str, resolved: ResolvedRequest, max_branches: int) -> LabeledPolicy | None:
    """The policy that applies to a request outside of experiments: the one it names, or the default if it can apply.

    Raises InputError where the request names a policy that cannot apply.
    """
    policy, option = resolved.policy, incompatible_option(resolved.body)
    if option is not None:
        if (
            resolved.options.forks
            or resolved.options.policy_logprobs
            or (policy is not None and not resolved.by_default)
        ):
            raise InputError("policy", f"does not work with {option}; leave one of the two out")
        return None
    if policy is not None and not resolved.by_default:
        check_windows(path, resolved.body, policy.policy)
    action = None if policy is None else tree_action_of(policy.policy)
    if action is None:
        return policy
    if resolved.by_default:
        return policy if can_branch(path, resolved.body, action, max_branches) else None
    check_choices(path, resolved.body, action, max_branches)
    return policy


def incompatible_option(body: Mapping[str, Any]) -> str | None:
    """The option in a body that works with no policy, if there is one."""
    return next((option for option in INCOMPATIBLE_OPTIONS if body.get(option) not in (None, False)), None)


def tree_action_of(policy: Policy) -> TreeAction | None:
    """The action of a policy that runs several engine requests; None if it has none, or is in shadow."""
    return None if policy.shadow or policy.tree_rule is None else policy.tree_rule.tree_action


def check_windows(path: str, body: Mapping[str, Any], policy: Policy) -> None:
    """Check that the windows of a policy's conditions can fill within the request's limit of tokens.

    Raises InputError for one that cannot: its rule would never act.
    """
    limits = body.get("sampling_params") if path == TOKENS else body
    found = [limits.get(name) for name in MAX_TOKENS] if isinstance(limits, Mapping) else []
    most = next((limit for limit in found if isinstance(limit, int)), None)
    if most is None:
        return
    for number, rule in enumerate(policy.rules):
        for name, width in rule.original.when.windows.items():
            if width > most:
                raise InputError(
                    f"policy.rules[{number}].when.{name}",
                    f"is {width} tokens, which is never full in a request of at most {most}; raise its max_tokens, or "
                    "shorten the window",
                )


def check_choices(path: str, body: Mapping[str, Any], action: TreeAction, max_branches: int) -> None:
    """Check that the request's choices can be a tree's answers, or the one that is selected. Raises InputError."""
    if path == BATCH:
        raise InputError(
            "policy", f"runs several requests for each answer, which {BATCH} has no room for; send one each"
        )
    parameters, field = (body.get("sampling_params"), "sampling_params.n") if path == TOKENS else (body, "n")
    choices = parameters.get("n") if isinstance(parameters, Mapping) else None
    choices = choices if isinstance(choices, int) else 1
    if body.get("best_of") not in (None, choices):
        raise InputError(
            "best_of", "picks among independent samples, and the policy creates the answers; let its `select` choose"
        )
    if returns_several(action):
        if path not in WITH_CHOICES:
            raise InputError(
                "policy", f"gives several answers, and {path} gives one; let the policy's branch `select` one"
            )
        if choices > max_branches:
            raise InputError(field, f"is {choices}; a tree has at most {max_branches} answers here (--max-branches)")
    elif choices > 1:
        raise InputError(field, f"is {choices}, but the policy returns one answer; leave n out")


def limit_warnings(policy: Policy, max_branches: int) -> tuple[str, ...]:
    """What a policy cannot do on a server that allows so many answers in a tree."""
    action = tree_action_of(policy)
    if isinstance(action, Sample) and action.answers > max_branches:
        effect = _effect_of_fewer(action, max_branches)
        return (f"takes {action.answers} answers, and this server allows {max_branches} (--max-branches){effect}",)
    if isinstance(action, Branch) and (action.max_branches or 0) > max_branches:
        return (f"takes up to {action.max_branches} answers, and this server allows {max_branches} (--max-branches)",)
    return ()


def _effect_of_fewer(action: Sample, answers: int) -> str:
    """What sampling cannot do at all with so few answers, for a warning."""
    if action.select == "confidence" and answers <= action.warm_up:
        return "; all of them set the threshold, so that none is stopped"
    if action.unanimous is not None and answers < action.unanimous:
        return f"; no window of {action.unanimous} is complete, so that none is stopped"
    if action.first is not None and answers <= action.first:
        return f"; all of them are among the first {action.first}, so that none is stopped"
    return ""


def can_branch(path: str, body: Mapping[str, Any], action: TreeAction, max_branches: int) -> bool:
    """Whether a request's body allows a policy with this action; `check_branches` checks the rest in the engine."""
    try:
        check_choices(path, body, action, max_branches)
    except InputError:
        return False
    prompt = body.get("prompt")
    has_several_prompts = isinstance(prompt, list) and len(prompt) > 1 and not isinstance(prompt[0], int)
    may_run_tools = path == "/v1/responses" and bool(body.get("tools"))  # the server then queries the engine again
    return not has_several_prompts and not may_run_tools


def check_policy_logprobs(params: SamplingParams, speculative: bool) -> None:
    """Reject what changes the distribution after the policy: its log probabilities would be wrong.

    Raises VLLMValidationError.
    """
    changed_later = {
        "presence_penalty": params.presence_penalty != 0,
        "frequency_penalty": params.frequency_penalty != 0,
        "repetition_penalty": params.repetition_penalty != 1,
        "thinking_token_budget": params.thinking_token_budget is not None,
    }
    for name, is_set in changed_later.items():
        if is_set:
            raise VLLMValidationError(
                f"policy_logprobs: not available with {name}, which the request or the model's generation config sets; "
                "leave one of the two out",
                parameter="policy_logprobs",
            )
    if speculative:
        raise VLLMValidationError(
            "policy_logprobs: not available on this server, which decodes speculatively", parameter="policy_logprobs"
        )


def check_branches(params: SamplingParams, prompt: Any) -> None:
    """Reject what depends on a request's own token history: a branch would not see the tokens that it shares.

    A thinking budget does not: vLLM counts the reasoning in the prompt too, which holds what a branch shares.
    Raises VLLMValidationError.
    """
    incompatible = {
        "structured outputs": params.structured_outputs is not None,
        "presence_penalty": params.presence_penalty != 0,
        "frequency_penalty": params.frequency_penalty != 0,
        "repetition_penalty": params.repetition_penalty != 1,
        "bad_words": bool(params.bad_words),
        "repetition_detection": params.repetition_detection is not None,
    }
    for name, is_set in incompatible.items():
        if is_set:
            raise VLLMValidationError(
                f"policy: one that branches does not work with {name}, which the request or the model's generation "
                "config sets; leave one of the two out",
                parameter="policy",
            )
    if not isinstance(prompt, dict) or not prompt.get("prompt_token_ids"):
        raise VLLMValidationError("policy: one that branches needs a prompt of tokens", parameter="policy")
