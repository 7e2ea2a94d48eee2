"""Measures a given text: the model is made to write it, and what it would have drawn is recorded at each token.

Of a prompt vLLM tells the log probabilities of the likeliest few, which only bound the entropy from below, or of the whole
vocabulary, a megabyte a token. Where tokens are generated the kernel sees the whole distribution on the device, so the text is
generated: each token forced after it was measured. Segments of it run side by side, on a prefix that is computed once and cached.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from forkpoint_server.branching.interface import ChildStart
from forkpoint_server.engine.admission import BackgroundBudget
from forkpoint_server.engine.engine import InterveningEngine
from forkpoint_server.engine.payload import payload_of, starts_in_reasoning
from forkpoint_server.errors import ApiError
from forkpoint_server.requests.context import RequestContext
from forkpoint_server.requests.progress import ALTERNATIVES
from forkpoint_server.traces.trace import Trace, join_traces
from forkpoint_server.vllm_seam import LoRARequest, RequestOutputKind, SamplingParams, tokens_input

from .segments import Segment, split
from .tokenize import Text

SETTLE_SECONDS = 10.0
"""How long the last records are waited for: without all of them there is no answer."""

Progress = Callable[[int], None]
"""Told how many more are done."""


def unmeasured(why: str) -> ApiError:
    """The worker's records did not all arrive, or it did not write what it was given: there is no exact answer."""
    return ApiError(HTTPStatus.SERVICE_UNAVAILABLE, why)


@dataclass(frozen=True)
class Run:
    """What a given text is run with: the engine, the budget of its requests in it, and the name and the adapter of its engine requests.

    `stops` are the tokens with which the model ends what it writes.
    """

    engine: InterveningEngine
    budget: BackgroundBudget
    name: str
    lora: LoRARequest | None
    rank: dict[str, Any]  # options of EngineClient.generate
    stops: frozenset[int]

    def side_by_side(self, prompt: int) -> int:
        """How many requests that share a prompt of so many tokens are to run at once; without a cache each computes it."""
        config = self.engine.vllm_config
        if config.cache_config.enable_prefix_caching:
            return self.budget.max_running
        computed_at_once: int = config.scheduler_config.max_num_batched_tokens // prompt
        return max(1, min(self.budget.max_running, computed_at_once))


@dataclass(frozen=True)
class Cost:
    """Requests of the engine, and the tokens that it generated for them."""

    requests: int
    tokens: int

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.requests + other.requests, self.tokens + other.tokens)


async def measure(
    run: Run, intervention: RequestContext, text: Text, alternatives: int, progress: Progress, everywhere: bool = False
) -> Cost:
    """Give the intervention the one trace of a text, with its alternatives at forks or `everywhere`.

    Raises ApiError (503) where there is no exact answer.
    """
    if not intervention.receiver.address:
        raise unmeasured("there is no telemetry: the server's log says why")
    cache = run.engine.vllm_config.cache_config
    most = run.budget.max_running if cache.enable_prefix_caching else 1
    segments = split(len(text.tokens), len(text.prompt), cache.block_size, most)
    told = max(ALTERNATIVES, alternatives)
    traces = [intervention.receiver.open(0, segment.begin, intervention.fork_threshold, told) for segment in segments]
    for trace in traces:
        trace.stores_all_alternatives = everywhere
    cached = asyncio.Event()

    async def write(segment: Segment, trace: Trace, last: bool) -> None:
        if not last:
            await cached.wait()
        async with run.budget.slot():
            await _write(run, intervention, text, segment, trace, progress, cached)

    try:
        async with asyncio.TaskGroup() as group:
            for segment, trace in reversed(list(zip(segments, traces, strict=True))):
                group.create_task(write(segment, trace, segment is segments[-1]))
        deadline = time.monotonic() + SETTLE_SECONDS
        await asyncio.gather(*(trace.settle(deadline) for trace in traces))
        lost = sum(trace.num_missing for trace in traces)
    finally:
        intervention.receiver.close(traces)
    if lost:
        raise unmeasured(f"the records of {lost} of {len(text.tokens)} tokens were lost on their way; ask again")
    whole = join_traces(traces)
    whole.prompt = text.prompt
    intervention.traces = [whole]
    return Cost(len(segments), len(text.tokens))


async def _write(
    run: Run, intervention: RequestContext, text: Text, segment: Segment, trace: Trace, progress: Progress,
    begun: asyncio.Event,
) -> None:  # fmt: skip
    """Make the model write one segment; `begun` is set when what stands before it was computed."""
    program = intervention.compiled.program
    prompt, given = [*text.prompt, *text.tokens[: segment.begin]], text.tokens[segment.begin : segment.end]
    start = ChildStart(text.tokens[: segment.begin], 0, program.follow(())[0], starts_in_reasoning(program, prompt))
    payload = payload_of(intervention, trace, start, trace.max_alternatives, forced_tokens=given)
    params = SamplingParams(
        temperature=0.0, max_tokens=len(given), ignore_eos=True, detokenize=False, output_kind=RequestOutputKind.DELTA
    )
    name, lora = f"{run.name}-{segment.begin}", run.lora
    outputs = run.engine.generate_background(tokens_input(prompt), params, name, payload, lora_request=lora, **run.rank)
    async with aclosing(outputs):
        async for output in outputs:
            begun.set()
            for choice in output.outputs:
                trace.tokens.extend(choice.token_ids)
                progress(len(choice.token_ids))
    _check(trace.tokens, given)


def _check(written: Sequence[int], given: Sequence[int]) -> None:
    if list(written) != list(given):
        raise unmeasured("the model runner did not write the text that it was given")
