"""The routes that generate, and what of a policy works on them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vllm.exceptions import VLLMValidationError
from vllm.sampling_params import SamplingParams

from forkpoint_policies.spec import Growing, InputError, Policy
from forkpoint_policies.spec.tree_actions import gives_several

GENERATING = ("/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages")
WITH_CHOICES = ("/v1/chat/completions", "/v1/completions")
ALONE = ("use_beam_search", "background")
"""Beam search asks the engine anew for each token; a background response is told of before it is generated."""


def alone(body: Mapping[str, Any]) -> str | None:
    """The option in a body that goes with no policy, if there is one."""
    return next((option for option in ALONE if body.get(option) not in (None, False)), None)


def growing_of(policy: Policy | None) -> Growing | None:
    """The action of a policy that takes several requests of the engine, if it acts."""
    rule = policy.growing if policy is not None and not policy.shadow else None
    return rule.growing if rule is not None else None


def check_choices(path: str, body: Mapping[str, Any], growing: Growing, most: int) -> None:
    """A tree's answers are the request's choices, where it has such; or one of them is given. Raises InputError."""
    choices = body.get("n")
    choices = choices if isinstance(choices, int) else 1
    if body.get("best_of") not in (None, choices):
        raise InputError(
            "best_of", "picks among independent samples, and the policy grows the answers; let its `select` choose"
        )
    if gives_several(growing):
        if path not in WITH_CHOICES:
            raise InputError(
                "policy", f"gives several answers, and {path} gives one; let the policy's branch `select` one"
            )
        if choices > most:
            raise InputError("n", f"is {choices}; a tree has at most {most} answers here (--max-branches)")
    elif choices > 1:
        raise InputError("n", f"is {choices}, but of the policy's answers one is given; leave n out")


def can_grow(path: str, body: Mapping[str, Any], growing: Growing, most: int) -> bool:
    """Whether a request can have such a policy, as far as its body says; the engine knows the rest."""
    try:
        check_choices(path, body, growing, most)
    except InputError:
        return False
    prompt = body.get("prompt")
    several = isinstance(prompt, list) and len(prompt) > 1 and not isinstance(prompt[0], int)
    turns = path == "/v1/responses" and bool(body.get("tools"))  # the server may run tools, and ask the engine again
    return not several and not turns


def check_branches(params: SamplingParams, prompt: Any) -> None:
    """What counts a request's own tokens, or follows them in a grammar, would not see those that a branch shares."""
    unlike = {
        "structured outputs": params.structured_outputs is not None,
        "presence_penalty": params.presence_penalty != 0,
        "frequency_penalty": params.frequency_penalty != 0,
        "repetition_penalty": params.repetition_penalty != 1,
        "bad_words": bool(params.bad_words),
        "repetition_detection": params.repetition_detection is not None,
        "thinking_token_budget": params.thinking_token_budget is not None,
    }
    for name, asked in unlike.items():
        if asked:
            raise VLLMValidationError(
                f"policy: one that branches does not work with {name}, which the request or the model's generation config asks "
                "for; leave one of the two out",
                parameter="policy",
            )
    if not isinstance(prompt, dict) or not prompt.get("prompt_token_ids"):
        raise VLLMValidationError("policy: one that branches needs a prompt of tokens", parameter="policy")
