"""The sampling parameters of the engine requests that the server makes of a client's: changed and checked only here."""

from __future__ import annotations

from typing import Any

from forkpoint_server.branching.interface import ChildStart
from forkpoint_server.vllm_seam import RequestOutputKind, SamplingParams


def derived_params(params: SamplingParams, **changes: Any) -> SamplingParams:
    """A copy with these fields changed, checked as vLLM checks new parameters. Raises VLLMValidationError.

    Nothing else checks a changed copy before the engine decodes it, in a thread that ends for good at the first request
    that it cannot decode: the engine then never starts another one.
    """
    own = params.clone()
    for name, value in changes.items():
        setattr(own, name, value)
    own.__post_init__()
    return own


def bounded_params(params: SamplingParams, longest: int) -> SamplingParams:
    """The parameters of a tree's request: no answer is longer than the `longest` that fits after the prompt."""
    if longest < 1:
        return params  # vLLM says that the prompt is too long
    return derived_params(params, max_tokens=min(longest, params.max_tokens or longest))


def child_params(
    params: SamplingParams, start: ChildStart, extra_args: dict[str, Any], needs_logprobs: bool
) -> SamplingParams:
    """The parameters of one request of a tree: the client's `bounded_params`, less what the shared tokens used of them.

    `needs_logprobs`: the policy reads those of the sampled tokens. Raises VLLMValidationError.
    """
    changes: dict[str, Any] = {
        "n": 1,
        "output_kind": RequestOutputKind.DELTA,
        "seed": start.seed if params.seed is not None else None,
        "extra_args": extra_args,
        **_lengths(params, start),
    }
    if (trial := start.trial) is not None:
        changes |= {
            "temperature": trial.temperature,
            "seed": start.seed,
            "top_p": trial.top_p,
            "top_k": 0,
            "min_p": 0.0,
            "presence_penalty": trial.presence_penalty,
            "stop": list(trial.stop),
            "stop_token_ids": [*(params.stop_token_ids or ()), *trial.stop_token_ids],
            "ignore_eos": False,
            "thinking_token_budget": None,
        }
    if (needs_logprobs or (trial is not None and trial.temperature > 0)) and params.num_logprobs is None:
        changes["logprobs"] = 0
    if not start.first:  # only the first reports on the prompt, and the others read it from the cache
        changes |= {"prompt_logprobs": None, "prompt_logprob_token_ids": None, "prompt_logprob_start": None}
        if params.prompt_logprobs is not None or params.prompt_logprob_token_ids is not None:
            changes["skip_reading_prefix_cache"] = None
    return derived_params(params, **changes)


def _lengths(params: SamplingParams, start: ChildStart) -> dict[str, int | None]:
    if params.max_tokens is None:
        return {}
    left = params.max_tokens - len(start.tokens)
    min_tokens = 0 if start.trial is not None else max(0, params.min_tokens - len(start.tokens))
    longest = start.max_tokens if start.trial is None else start.trial.max_tokens
    if longest is None:
        return {"max_tokens": left, "min_tokens": min_tokens}
    max_tokens = min(left, longest)
    return {"max_tokens": max_tokens, "min_tokens": min(min_tokens, max_tokens)}
