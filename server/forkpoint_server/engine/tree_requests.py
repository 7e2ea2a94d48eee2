"""The engine requests of one tree: each continues the prompt with the tokens that it shares with others."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from forkpoint_server.branching.interface import ChildStart
from forkpoint_server.requests.progress import num_alternatives, start_engine_request
from forkpoint_server.traces.trace import Trace
from forkpoint_server.vllm_seam import RequestOutput, SamplingParams

from .cache_salt import salted_tree_prompt
from .derived_params import child_params, derived_params
from .early_ends import AnswerStops, cut_at_stops, cut_at_written_end, stops_in_answer, writes_end
from .payload import limits_of, payload_of
from .request import ChildRequests, EngineRequest

Generate = Callable[..., AsyncGenerator[RequestOutput, None]]
"""As `EngineClient.generate`."""


OF_THE_FIRST = ("kv_transfer_params", "ec_transfer_params")
"""Extra arguments that fetch what another engine computed of the prompt. The other requests find it in the cache."""


@dataclass(frozen=True)
class TreeRequests:
    """Runs the requests of a tree."""

    request: EngineRequest  # whose parameters are bounded
    needs_logprobs: bool  # of the sampled tokens, by the policy
    children: ChildRequests
    tokenizer: Any
    generate_first: Generate  # the client's request itself
    generate: Generate
    salt: str | None = None  # of the prefix cache

    async def start(self, trace: Trace, start: ChildStart) -> AsyncGenerator[RequestOutput, None]:
        """Run one request; yields deltas, whose tokens are added to the trace before."""
        request = self.request
        request_id = request.request_id if start.first else f"{trace.handle}_{request.request_id}"
        start_engine_request(request.context, request_id, trace)
        tokens = [*request.prompt["prompt_token_ids"], *start.tokens]
        prompt: Any = salted_tree_prompt({**request.prompt, "prompt_token_ids": tokens}, self.salt, start.cache_group)
        prompt.pop("prompt", None)
        generate = self.generate_first if start.first else self.generate
        params, context = self._params(trace, start), request.context
        in_answer = start.trial is None and stops_in_answer(context, params)
        own = derived_params(params, stop=[]) if in_answer else params
        outputs = generate(prompt, own, request_id, **request.options)
        if in_answer:
            regions = context.model.regions
            outputs = cut_at_stops(outputs, AnswerStops(self.tokenizer, tokens, params, regions, start.region))
        outputs = store_tokens(outputs, trace)
        if writes_end(context, params):
            outputs = cut_at_written_end(outputs, trace, context.model.stop)
        with self.children.running(request.request_id, [] if start.first else [request_id]):
            async with aclosing(outputs) as stored:
                async for output in stored:
                    yield output

    def _params(self, trace: Trace, start: ChildStart) -> SamplingParams:
        params, context = self.request.params, self.request.context
        payload = payload_of(
            context, trace, start, num_alternatives(context),
            limits=limits_of(params, start.trial), scored=context.options.policy_logprobs,
        )  # fmt: skip
        needs_logprobs = self.needs_logprobs or context.options.policy_logprobs
        passed = {
            name: value for name, value in (params.extra_args or {}).items() if start.first or name not in OF_THE_FIRST
        }
        return child_params(params, start, payload.into(passed), needs_logprobs)


async def store_tokens(
    outputs: AsyncGenerator[RequestOutput, None], trace: Trace, cumulative: bool = False
) -> AsyncGenerator[RequestOutput, None]:
    """Pass on what the engine returns, and store its tokens in the trace."""
    async with aclosing(outputs):
        async for output in outputs:
            for choice in output.outputs:
                if cumulative:
                    trace.tokens.clear()
                    del trace.raw_logprobs[:]
                trace.tokens.extend(choice.token_ids)
                if choice.logprobs is not None:
                    logprobs: Any = choice.logprobs  # a list, or vLLM's flat equivalent
                    trace.raw_logprobs.extend(
                        step[token].logprob for step, token in zip(logprobs, choice.token_ids, strict=False)
                    )
                trace.ended |= choice.finish_reason is not None
            yield output
