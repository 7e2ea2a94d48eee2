"""The decorated engine: the only place where requests are changed on their way into vLLM."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from forkpoint_policies.instruction import Instruction, without_instruction
from forkpoint_policies.program import NO_TOKEN, Program
from vllm.engine.protocol import EngineClient
from vllm.outputs import RequestOutput
from vllm.sampling_params import RequestOutputKind, SamplingParams

from . import metrics
from .intervention import ALTERNATIVES, Intervention, current
from .telemetry import Trace

PROMPT_TAIL = 32
"""How many of the prompt's last tokens are read to tell whether it ends inside a word."""


class InterveningEngine:
    """Stands for vLLM's EngineClient: forwards everything, and attaches the current intervention to what is generated."""

    def __init__(self, engine: EngineClient) -> None:
        self._engine = engine
        self._children: dict[str, list[str]] = {}  # by the id that its client may have chosen, so not unique

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def generate(
        self, prompt: Any, sampling_params: SamplingParams, request_id: str, **options: Any
    ) -> AsyncGenerator[RequestOutput, None]:
        """As EngineClient.generate. With several choices under a policy, each is an engine request of its own."""
        params = sampling_params.clone()
        params.extra_args = without_instruction(params.extra_args)
        intervention = current.get()  # read here, in the handler's context; the generator may run in another
        if intervention is None:
            return self._watched(self._engine.generate(prompt, params, request_id, **options), "none")
        traces = intervention.open(params.n)
        begin = _begin(intervention.plan.program, prompt)
        branches = [_instructed(params, intervention, trace, number, begin) for number, trace in enumerate(traces)]
        if len(branches) == 1:
            outputs = self._engine.generate(prompt, branches[0], request_id, **options)
            return self._watched(outputs, intervention.label, traces[0], _is_cumulative(params))
        return self._several(prompt, branches, traces, request_id, options, intervention)

    async def abort(self, request_id: str | Iterable[str], **options: Any) -> None:
        """As AsyncLLM.abort; the choices of a request go with it."""
        asked = [request_id] if isinstance(request_id, str) else list(request_id)
        children = [child for name in asked for child in self._children.get(name, ())]
        await self._engine.abort([*asked, *children], **options)

    async def _watched(
        self, outputs: AsyncGenerator[RequestOutput, None], label: str, trace: Trace | None = None, cumulative: bool = False
    ) -> AsyncGenerator[RequestOutput, None]:
        """Pass on what the engine gives, keep the tokens of a trace, and count how each choice ends."""
        ended = False
        try:
            async with aclosing(outputs):
                async for output in outputs:
                    for choice in output.outputs:
                        if trace is not None:
                            if cumulative:
                                trace.tokens.clear()
                            trace.tokens.extend(choice.token_ids)
                        if choice.finish_reason is not None:
                            ended = True
                            metrics.REQUESTS.labels(label, "", choice.finish_reason).inc()
                    if trace is not None:
                        trace.ended = ended
                    yield output
        except (asyncio.CancelledError, GeneratorExit):
            if not ended:
                metrics.REQUESTS.labels(label, "", "abort").inc()
            raise

    async def _several(
        self,
        prompt: Any,
        branches: list[SamplingParams],
        traces: list[Trace],
        request_id: str,
        options: dict[str, Any],
        intervention: Intervention,
    ) -> AsyncGenerator[RequestOutput, None]:
        """Run the choices side by side and give them out as vLLM does: as they come, or all together at the end."""
        cumulative = _is_cumulative(branches[0])
        together = branches[0].output_kind == RequestOutputKind.FINAL_ONLY
        arrived: asyncio.Queue[tuple[int, RequestOutput | BaseException | None]] = asyncio.Queue()
        names = [f"{number}_{request_id}" for number in range(len(branches))]

        async def run(number: int) -> None:
            outputs = self._engine.generate(prompt, branches[number], names[number], **options)
            try:
                async with aclosing(self._watched(outputs, intervention.label, traces[number], cumulative)) as watched:
                    async for output in watched:
                        arrived.put_nowait((number, output))
                arrived.put_nowait((number, None))
            except Exception as error:  # noqa: BLE001  # it is raised again where the choices are gathered
                arrived.put_nowait((number, error))

        self._children.setdefault(request_id, []).extend(names)
        tasks = [asyncio.create_task(run(number)) for number in range(len(branches))]
        finals: dict[int, RequestOutput] = {}
        running = len(tasks)
        try:
            while running:
                number, output = await arrived.get()
                if isinstance(output, BaseException):
                    raise output
                if output is None:
                    running -= 1
                    continue
                output.request_id = request_id
                for choice in output.outputs:
                    choice.index = number
                if output.finished:
                    finals[number] = output
                if together:
                    continue
                output.finished = len(finals) == len(branches)
                yield output
            if together:
                whole = finals[0]
                whole.outputs = [choice for number in sorted(finals) for choice in finals[number].outputs]
                yield whole
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for name in names:
                self._children[request_id].remove(name)
            if not self._children[request_id]:
                del self._children[request_id]


@dataclass(frozen=True)
class _Begin:
    """Where a request's prompt leaves it."""

    word_state: int
    in_reasoning: bool


def _begin(program: Program, prompt: Any) -> _Begin:
    tokens = prompt.get("prompt_token_ids") or () if isinstance(prompt, dict) else ()
    word_state, _ = program.follow(list(tokens[-PROMPT_TAIL:]))
    return _Begin(word_state, begins_in_reasoning(tokens, program.reasoning_start, program.reasoning_end))


def _instructed(params: SamplingParams, intervention: Intervention, trace: Trace, number: int, begin: _Begin) -> SamplingParams:
    """The parameters of one choice: its instruction, and of several choices its own seed, numbered as vLLM numbers them."""
    plan = intervention.plan
    seed = secrets.randbits(62) if params.seed is None else _signed(params.seed + number)
    instruction = Instruction(
        program=plan.packed,
        key=plan.key,
        handle=trace.handle,
        address=intervention.receiver.address,
        word_state=begin.word_state,
        in_reasoning=begin.in_reasoning,
        alternatives=ALTERNATIVES if intervention.forks else 0,
        seed=seed,
        drawn=plan.compiled.drawn(seed),
    )
    own = params.clone()
    own.extra_args = instruction.into(params.extra_args)
    if params.n > 1:
        own.n = 1
        own.seed = None if params.seed is None else _signed(params.seed + number)
    return own


def _signed(seed: int) -> int:
    """A seed as 64 bits: vLLM takes seeds up to the largest such number, and the next choice's is one more."""
    return (seed + 2**63) % 2**64 - 2**63


def begins_in_reasoning(prompt: Sequence[int], start: int, end: int) -> bool:
    """Whether what follows the prompt is reasoning: unless the last marker in it is the one that ends it."""
    if start == end == NO_TOKEN:
        return True
    return next((token == start for token in reversed(prompt) if token in (start, end)), True)


def _is_cumulative(params: SamplingParams) -> bool:
    return params.output_kind == RequestOutputKind.CUMULATIVE
