"""Ends of an answer that vLLM does not see: stop strings that count in the answer only, and a policy's own end."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

from forkpoint_policies.compile.regions import IN_REASONING, RegionReader, Regions
from forkpoint_server.branching.choice_output import ChoiceOutput
from forkpoint_server.requests.context import RequestContext
from forkpoint_server.traces.trace import Trace
from forkpoint_server.vllm_seam import (
    CompletionOutput,
    EngineCoreRequest,
    IncrementalDetokenizer,
    RequestOutput,
    RequestOutputKind,
    SamplingParams,
    VLLMValidationError,
    check_stop_strings,
)

from .derived_params import derived_params

RECORD_SECONDS = 1.0
"""How long to wait for the record of a token that may be the end that a policy wrote."""


def stops_in_answer(context: RequestContext, params: SamplingParams) -> bool:
    """Whether the request's stop strings count in its answer only. Raises VLLMValidationError where that cannot be
    told."""
    if context.options.stop_in != "answer" or not params.stop:
        return False
    if not context.model.regions.has_reasoning:
        why = context.model.regions.unfollowed or "start the server with --reasoning-parser"
        said = f"stop_in: cannot be 'answer' here, as nothing tells reasoning and answer apart: {why}"
        raise VLLMValidationError(said, parameter="stop_in")
    return True


class AnswerStops:
    """Looks for stop strings in the answer of one choice, and cuts it there as vLLM would.

    The text is that of vLLM's detokenizer, and the search vLLM's; only where it starts is decided here.
    """

    def __init__(
        self, tokenizer: Any, prompt: Sequence[int], params: SamplingParams, regions: Regions, state: int
    ) -> None:
        stop: Any = params.stop
        self._stops = [stop] if isinstance(stop, str) else list(stop)
        self._params = params
        self._tokens: list[int] = []
        self._regions = RegionReader(regions, state)
        self._answer_start: int | None = None  # characters before the answer; None in the reasoning
        self._num_sent = 0
        own = derived_params(params, stop=[], output_kind=RequestOutputKind.DELTA)
        self._detokenizer: Any = IncrementalDetokenizer.from_new_request(tokenizer, _core_request(prompt, own))

    def cut(self, output: CompletionOutput) -> None:
        """Give a delta the text that can be sent, and end it at the first stop string in the answer."""
        tokens, found = list(output.token_ids), None
        by_token = output.finish_reason == "stop"  # the last token ends the answer: there are no stop strings in vLLM
        kept = 0
        for kept, token in enumerate(tokens, 1):
            found = self._add(token, by_token and kept == len(tokens))
            if found is not None:
                break
        if found is not None:
            stop, length = found
            self._detokenizer.output_text = self._text[:length]
            output.token_ids, output.finish_reason, output.stop_reason = tokens[:kept], "stop", stop
            if output.logprobs is not None:
                output.logprobs = output.logprobs[:kept]
        sendable = len(self._text) if output.finish_reason is not None else self._num_sendable()
        output.text = self._text[self._num_sent : sendable]
        self._num_sent = max(self._num_sent, sendable)

    @property
    def _text(self) -> str:
        return str(self._detokenizer.output_text)

    def _add(self, token: int, is_end: bool) -> tuple[str, int] | None:
        """Read one more token; the stop string that it completes, and the length of the text up to it."""
        before = len(self._text)
        if self._regions.state & IN_REASONING:
            self._answer_start = None
        elif self._answer_start is None:
            self._answer_start = before
        self._detokenizer.update([token], is_end)
        self._tokens.append(token)
        self._regions.read(self._tokens)
        if self._answer_start is None or len(self._tokens) <= self._params.min_tokens:
            return None
        found = check_stop_strings(
            self._text[self._answer_start :],
            len(self._text) - before,
            self._stops,
            self._params.include_stop_str_in_output,
        )
        if found is None:
            return None
        stop, length = found
        return stop, len(self._text) if length < 0 else self._answer_start + length

    def _num_sendable(self) -> int:
        """How many characters cannot become part of a stop string."""
        if self._params.include_stop_str_in_output or self._answer_start is None:
            return len(self._text)
        return max(self._answer_start, len(self._text) - max(map(len, self._stops)) + 1)


async def cut_at_stops(
    outputs: AsyncGenerator[RequestOutput, None], stops: AnswerStops
) -> AsyncGenerator[RequestOutput, None]:
    """Pass on a request's deltas up to a stop string in its answer; the request is aborted there."""
    async with aclosing(outputs):
        async for output in outputs:
            for choice in output.outputs:
                stops.cut(choice)
                output.finished |= choice.finish_reason is not None
            yield output
            if output.finished:
                return


def writes_end(context: RequestContext, params: SamplingParams) -> bool:
    """Whether a rule may write the end of the answer where vLLM does not stop at it: under `ignore_eos`."""
    end = context.model.stop
    return bool(params.ignore_eos) and any(rule.text == [end] for rule in context.compiled.program.rules)


async def cut_at_written_end(
    outputs: AsyncGenerator[RequestOutput, None], trace: Trace, end: int
) -> AsyncGenerator[RequestOutput, None]:
    """Pass on a request's deltas, stored in the trace by now, up to the end that a rule has written."""
    async with aclosing(outputs):
        async for output in outputs:
            for choice in output.outputs:
                first = len(trace.tokens) - len(choice.token_ids)
                kept = await _num_until_written_end(trace, first, end)
                if kept is not None:
                    del trace.tokens[first + kept :], trace.raw_logprobs[first + kept :]
                    trace.ended = output.finished = True
                    choice.token_ids = list(choice.token_ids)[:kept]
                    choice.finish_reason, choice.stop_reason = "stop", None
                    if choice.logprobs is not None:
                        choice.logprobs = choice.logprobs[:kept]
            yield output
            if output.finished:
                return


async def _num_until_written_end(trace: Trace, first: int, end: int) -> int | None:
    """How many of a trace's tokens from `first` on there are up to an end that a rule wrote; None without one."""
    for index in range(first, len(trace.tokens)):
        if trace.tokens[index] == end:
            await trace.settle(time.monotonic() + RECORD_SECONDS)
            profile = trace.profile()
            if profile.forced[profile.position == trace.first_position + index].any():
                return index - first + 1
    return None


async def as_requested(
    outputs: AsyncGenerator[RequestOutput, None], params: SamplingParams
) -> AsyncGenerator[RequestOutput, None]:
    """The deltas of one choice in the form that the client's parameters ask for."""
    whole, first = ChoiceOutput(0), None
    async with aclosing(outputs):
        async for output in outputs:
            if params.output_kind == RequestOutputKind.DELTA:
                yield output
                continue
            first = first or output
            for delta in output.outputs:
                whole.add(delta, params)
                whole.index = delta.index
            if output.finished or params.output_kind == RequestOutputKind.CUMULATIVE:
                output.outputs = [whole.whole(params)]
                output.prompt_logprobs = first.prompt_logprobs
                yield output


def _core_request(prompt: Sequence[int], params: SamplingParams) -> EngineCoreRequest:
    """What vLLM's detokenizer reads of a request."""
    return EngineCoreRequest(
        request_id="",
        prompt_token_ids=list(prompt),
        mm_features=None,
        sampling_params=params,
        pooling_params=None,
        arrival_time=0.0,
        lora_request=None,
        cache_salt=None,
        data_parallel_rank=None,
    )
