"""Measures a text: the model is forced to generate it, and the distribution at each token is recorded.

For a prompt, vLLM returns the log-probabilities of the likeliest few tokens, which only bound the entropy from below,
or of the whole vocabulary, a megabyte per token. For generated tokens the kernel sees the whole distribution on the
device, so the text is generated: each token is measured, then forced. Segments run concurrently, on a prefix that is
computed once and cached.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from forkpoint_policies.compile.word_automaton import FREE
from forkpoint_server.branching.interface import ChildStart
from forkpoint_server.engine.admission import BackgroundBudget
from forkpoint_server.engine.engine import InterveningEngine
from forkpoint_server.engine.payload import payload_of
from forkpoint_server.errors import ApiError
from forkpoint_server.requests.context import RequestContext
from forkpoint_server.requests.progress import ALTERNATIVES
from forkpoint_server.traces.trace import Trace, join_traces
from forkpoint_server.vllm_seam import LoRARequest, RequestOutputKind, SamplingParams, tokens_input

from .segments import Segment, split
from .tokenize import Text

SETTLE_SECONDS = 10.0
"""How long to wait for the last records: the analysis needs all of them."""

Progress = Callable[[int], None]
"""Called with the number of newly finished tokens or continuations."""


def measurement_error(why: str) -> ApiError:
    """503: records were lost, or the worker did not write the text: there is no exact answer."""
    return ApiError(HTTPStatus.SERVICE_UNAVAILABLE, why)


@dataclass(frozen=True)
class EngineSession:
    """What one analysis needs of the engine: a share of its capacity, and its requests' name and LoRA adapter.

    `stops` are the ids of the tokens that end the model's output.
    """

    engine: InterveningEngine
    budget: BackgroundBudget
    name: str
    lora: LoRARequest | None
    rank: dict[str, Any]  # options of EngineClient.generate
    stops: frozenset[int]

    def max_concurrent(self, prompt: int) -> int:
        """How many requests that share a prompt run at once; without a prefix cache, each computes the prompt."""
        config = self.engine.vllm_config
        if config.cache_config.enable_prefix_caching:
            return self.budget.max_running
        computed_at_once: int = config.scheduler_config.max_num_batched_tokens // prompt
        return max(1, min(self.budget.max_running, computed_at_once))


@dataclass(frozen=True)
class Cost:
    """Engine requests, and tokens generated for them."""

    requests: int
    tokens: int

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.requests + other.requests, self.tokens + other.tokens)


async def measure(
    session: EngineSession,
    context: RequestContext,
    text: Text,
    alternatives: int,
    progress: Progress,
    everywhere: bool = False,
) -> Cost:
    """Set the context's only trace to that of the text, with alternatives at forks or `everywhere`.

    Raises ApiError (503) where there is no exact answer.
    """
    if not context.receiver.address:
        raise measurement_error("there is no telemetry: the server's log says why")
    cache = session.engine.vllm_config.cache_config
    max_segments = session.budget.max_running if cache.enable_prefix_caching else 1
    segments = split(len(text.tokens), len(text.prompt), cache.block_size, max_segments)
    num_alternatives = max(ALTERNATIVES, alternatives)
    traces = [context.receiver.open(0, segment.begin, context.fork_threshold, num_alternatives) for segment in segments]
    for trace in traces:
        trace.stores_all_alternatives = everywhere
    cached = asyncio.Event()

    async def write(segment: Segment, trace: Trace, last: bool) -> None:
        if not last:
            await cached.wait()
        async with session.budget.slot():
            await _write(session, context, text, segment, trace, progress, cached)

    try:
        async with asyncio.TaskGroup() as group:
            for segment, trace in reversed(list(zip(segments, traces, strict=True))):
                group.create_task(write(segment, trace, segment is segments[-1]))
        deadline = time.monotonic() + SETTLE_SECONDS
        await asyncio.gather(*(trace.settle(deadline) for trace in traces))
        lost = sum(trace.num_missing for trace in traces)
    finally:
        context.receiver.close(traces)
    if lost:
        raise measurement_error(f"the records of {lost} of {len(text.tokens)} tokens were lost; send the request again")
    whole = join_traces(traces)
    whole.prompt = text.prompt
    whole.start_in(context.model.regions, *context.model.answer_start(text.prompt))
    context.traces = [whole]
    return Cost(len(segments), len(text.tokens))


async def _write(
    session: EngineSession, context: RequestContext, text: Text, segment: Segment, trace: Trace, progress: Progress,
    prefix_cached: asyncio.Event,
) -> None:  # fmt: skip
    """Make the model write one segment; `prefix_cached` is set once the tokens before it are computed."""
    model = context.model
    written, forced = text.tokens[: segment.begin], text.tokens[segment.begin : segment.end]
    region = model.regions.follow(written, model.answer_start(text.prompt).region)
    start = ChildStart(written, 0, FREE, region, region)
    payload = payload_of(context, trace, start, trace.max_alternatives, forced_tokens=forced)
    params = SamplingParams(
        temperature=0.0, max_tokens=len(forced), ignore_eos=True, detokenize=False, output_kind=RequestOutputKind.DELTA
    )
    name, lora = f"{session.name}-{segment.begin}", session.lora
    outputs = session.engine.generate_background(
        tokens_input([*text.prompt, *written]), params, name, payload, lora_request=lora, **session.rank
    )
    async with aclosing(outputs):
        async for output in outputs:
            prefix_cached.set()
            for choice in output.outputs:
                trace.tokens.extend(choice.token_ids)
                progress(len(choice.token_ids))
    _check(trace.tokens, forced)


def _check(written: Sequence[int], forced: Sequence[int]) -> None:
    if list(written) != list(forced):
        raise measurement_error("the model runner did not write the text that was sent to it")
