"""What a request takes with it to the worker: its program, its seed and the state in which it starts."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from forkpoint_policies.kernel.sampling_limits import NO_LIMITS, SamplingLimits
from forkpoint_policies.worker.payload import PolicyPayload
from forkpoint_server.branching.interface import ChildStart, TrialSampling
from forkpoint_server.requests.context import RequestContext
from forkpoint_server.requests.progress import num_alternatives
from forkpoint_server.traces.trace import Trace
from forkpoint_server.vllm_seam import SamplingParams, VLLMValidationError

from .derived_params import derived_params
from .early_ends import writes_end

MAX_PROGRAM_BYTES = 64 << 20
"""Of the programs that all choices of a client's request carry, each its own copy, into the engine's process."""
PROMPT_TAIL = 32
"""How many of the prompt's last tokens are read to see whether it ends inside a word."""


def prompt_tokens_of(prompt: Any) -> Sequence[int]:
    """The tokens of a prompt as vLLM passes it; none where it has only embeddings, say."""
    return prompt.get("prompt_token_ids") or () if isinstance(prompt, dict) else ()


def reserve_programs(context: RequestContext, num_choices: int) -> None:
    """Count the programs of one more prompt's choices. Raises VLLMValidationError where they are too large."""
    context.num_program_bytes += num_choices * len(context.compiled.packed)
    if context.num_program_bytes > MAX_PROGRAM_BYTES:
        raise VLLMValidationError(
            f"n: the choices of all prompts carry {context.num_program_bytes >> 20} MiB of the policy, at most "
            f"{MAX_PROGRAM_BYTES >> 20} MiB are allowed; request fewer choices, or name fewer words in the policy",
            parameter="n",
        )


def initial_state(
    context: RequestContext, prompt_tokens: Sequence[int], seed: int = 0, options: Mapping[str, Any] | None = None
) -> ChildStart:
    """The state of a request at the end of its prompt; `options` are those of `EngineClient.generate`."""
    word_state, _ = context.compiled.program.follow(list(prompt_tokens[-PROMPT_TAIL:]))
    start = context.model.answer_start(prompt_tokens, (options or {}).get("reasoning_parser_kwargs"))
    return ChildStart([], seed, word_state, *start)


def payload_of(
    context: RequestContext, trace: Trace, start: ChildStart, alternatives: int, *,
    forced_tokens: Sequence[int] = (), limits: SamplingLimits = NO_LIMITS, scored: bool = False,
    max_states: int = 0, kept_states: Sequence[str] = (), sums_above: float | None = None,
) -> PolicyPayload:  # fmt: skip
    """The payload of an engine request that starts so and reports to a trace.

    With `forced_tokens`, the request writes these instead of what the model would sample. `limits` are those of its
    sampling. `scored`: the log probabilities of its tokens are reported. `max_states`: the worker keeps the hidden
    states of these names at so many positions. `sums_above` is as in PolicyPayload.
    """
    compiled = context.compiled
    return PolicyPayload(
        program=compiled.packed_when_sure if start.sure else compiled.packed,
        key=compiled.key_when_sure if start.sure else compiled.key,
        handle=trace.handle,
        address=context.receiver.address,
        word_state=start.word_state,
        region=start.region,
        alternatives=alternatives,
        seed=start.seed,
        sampled=compiled.placebo_tokens(start.seed),
        num_shared_tokens=trace.first_position,
        inherited=start.inherited,
        forced_tokens=list(forced_tokens),
        limits=limits,
        scored=scored,
        max_states=max_states,
        kept_states=list(kept_states),
        sums_above=sums_above,
    )


def limits_of(params: SamplingParams, trial: TrialSampling | None = None) -> SamplingLimits:
    """The limits of an engine request's sampling; a probe's are those of its `trial`."""
    if trial is not None:
        return SamplingLimits(top_p=trial.top_p)
    return SamplingLimits(params.top_k, params.top_p, params.min_p)


def _reads_records(context: RequestContext, params: SamplingParams, trace: Trace) -> bool:
    """Whether anybody reads the records of a choice one by one, rather than their sums only.

    Where a stop string ends it, or the server, the worker evaluates more positions than sums leave out.
    """
    lists_tokens = context.stores_traces or context.options.forks or context.options.policy_logprobs
    ends_here = bool(params.stop) or writes_end(context, params)
    return lists_tokens or ends_here or trace.replaced is not None or any(context.applied.signals)


def choice_params(
    params: SamplingParams, context: RequestContext, trace: Trace, number: int, start: ChildStart
) -> SamplingParams:
    """The parameters of one choice: its payload and, with several choices, its own seed, derived as vLLM does."""
    seed = None if params.seed is None else signed_seed(params.seed + number)
    own_start = replace(start, seed=secrets.randbits(62) if seed is None else seed)
    changes: dict[str, Any] = {"n": 1, "seed": seed} if params.n > 1 else {}
    if context.options.policy_logprobs and params.num_logprobs is None:
        changes["logprobs"] = 0  # those of the model's own distribution, reported beside
    trace.is_summed = not _reads_records(context, params, trace)
    payload = payload_of(
        context, trace, own_start, num_alternatives(context),
        limits=limits_of(params), scored=context.options.policy_logprobs,
        sums_above=context.fork_threshold if trace.is_summed else None,
    )  # fmt: skip
    return derived_params(params, extra_args=payload.into(params.extra_args), **changes)


def plain_params(params: SamplingParams, number: int) -> SamplingParams:
    """The parameters of one choice without a policy, as vLLM derives them."""
    if params.n == 1:
        return params
    return derived_params(params, n=1, seed=None if params.seed is None else signed_seed(params.seed + number))


def signed_seed(seed: int) -> int:
    """A seed as a signed 64-bit number: vLLM accepts up to the largest one, and the next choice's is one more."""
    return (seed + 2**63) % 2**64 - 2**63
