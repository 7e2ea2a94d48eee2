"""What a request takes with it to the worker: its program, its seed and where its state begins."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any

from forkpoint_policies.compile.program import NO_TOKEN, Program
from forkpoint_policies.worker.payload import PolicyPayload
from forkpoint_server.branching.runner import Begin
from forkpoint_server.requests.context import RequestContext
from forkpoint_server.requests.progress import num_alternatives
from forkpoint_server.traces.trace import Trace
from forkpoint_server.vllm_seam import SamplingParams

PROMPT_TAIL = 32
"""How many of the prompt's last tokens are read to tell whether it ends inside a word."""


def initial_state(program: Program, prompt: Any) -> Begin:
    tokens = prompt.get("prompt_token_ids") or () if isinstance(prompt, dict) else ()
    word_state, _ = program.follow(list(tokens[-PROMPT_TAIL:]))
    return Begin([], 0, word_state, begins_in_reasoning(tokens, program.reasoning_start, program.reasoning_end))


def payload_of(intervention: RequestContext, trace: Trace, seed: int, begin: Begin) -> PolicyPayload:
    compiled = intervention.compiled
    return PolicyPayload(
        program=compiled.packed,
        key=compiled.key,
        handle=trace.handle,
        address=intervention.receiver.address,
        word_state=begin.word_state,
        in_reasoning=begin.in_reasoning,
        alternatives=num_alternatives(intervention),
        seed=seed,
        drawn=compiled.placebo_tokens(seed),
        begun=len(begin.tokens),
        inherited=begin.inherited,
    )


def with_payload(
    params: SamplingParams, intervention: RequestContext, trace: Trace, number: int, begin: Begin
) -> SamplingParams:
    """The parameters of one choice: its instruction, and of several choices its own seed, numbered as vLLM numbers them."""
    seed = secrets.randbits(62) if params.seed is None else signed_seed(params.seed + number)
    instruction = payload_of(intervention, trace, seed, begin)
    own = params.clone()
    own.extra_args = instruction.into(params.extra_args)
    if params.n > 1:
        own.n = 1
        own.seed = None if params.seed is None else signed_seed(params.seed + number)
    return own


def signed_seed(seed: int) -> int:
    """A seed as 64 bits: vLLM takes seeds up to the largest such number, and the next choice's is one more."""
    return (seed + 2**63) % 2**64 - 2**63


def begins_in_reasoning(prompt: Sequence[int], start: int, end: int) -> bool:
    """Whether what follows the prompt is reasoning: unless the last marker in it is the one that ends it."""
    if start == end == NO_TOKEN:
        return True
    return next((token == start for token in reversed(prompt) if token in (start, end)), True)
