"""The decorated engine: the only place where requests are changed on their way into vLLM."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from typing import Any

from forkpoint_policies.instruction import Instruction, without_instruction
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
        self._children: dict[str, list[str]] = {}

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
            return self._counted(self._engine.generate(prompt, params, request_id, **options))
        traces = intervention.open(params.n)
        branches = [_instructed(params, intervention, trace, number, prompt) for number, trace in enumerate(traces)]
        if len(branches) == 1:
            outputs = self._engine.generate(prompt, branches[0], request_id, **options)
            return self._traced(outputs, traces[0], intervention, _is_cumulative(params))
        return self._several(prompt, branches, traces, request_id, options, intervention)

    async def abort(self, request_id: str | Iterable[str]) -> None:
        """As EngineClient.abort; the choices of a request go with it."""
        asked = [request_id] if isinstance(request_id, str) else list(request_id)
        await self._engine.abort([one for name in asked for one in self._children.get(name, [name])])

    async def _counted(self, outputs: AsyncGenerator[RequestOutput, None]) -> AsyncGenerator[RequestOutput, None]:
        async with aclosing(outputs):
            async for output in outputs:
                for choice in output.outputs:
                    if choice.finish_reason is not None:
                        metrics.REQUESTS.labels("none", "", choice.finish_reason).inc()
                yield output

    async def _traced(
        self, outputs: AsyncGenerator[RequestOutput, None], trace: Trace, intervention: Intervention, cumulative: bool
    ) -> AsyncGenerator[RequestOutput, None]:
        async with aclosing(outputs):
            async for output in outputs:
                for choice in output.outputs:
                    if cumulative:
                        trace.tokens.clear()
                    trace.tokens.extend(choice.token_ids)
                    if choice.finish_reason is not None:
                        metrics.REQUESTS.labels(intervention.plan.label, "", choice.finish_reason).inc()
                yield output

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
                async with aclosing(self._traced(outputs, traces[number], intervention, cumulative)) as traced:
                    async for output in traced:
                        arrived.put_nowait((number, output))
                arrived.put_nowait((number, None))
            except Exception as error:  # noqa: BLE001  # it is raised again where the choices are gathered
                arrived.put_nowait((number, error))

        self._children[request_id] = names
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
            del self._children[request_id]


def _instructed(params: SamplingParams, intervention: Intervention, trace: Trace, number: int, prompt: Any) -> SamplingParams:
    """The parameters of one choice: its instruction, and of several choices its own seed, numbered as vLLM numbers them."""
    plan = intervention.plan
    tokens = list(prompt.get("prompt_token_ids") or ()) if isinstance(prompt, dict) else []
    word_state, _ = plan.program.follow(tokens[-PROMPT_TAIL:])
    seed = secrets.randbits(62) if params.seed is None else params.seed + number
    instruction = Instruction(
        program=plan.packed,
        key=plan.key,
        handle=trace.handle,
        address=intervention.receiver.address,
        word_state=word_state,
        in_reasoning=begins_in_reasoning(tokens, plan.program.reasoning_start, plan.program.reasoning_end),
        alternatives=ALTERNATIVES if intervention.forks else 0,
        seed=seed,
        drawn=plan.compiled.drawn(seed, intervention.target),
    )
    own = params.clone()
    own.extra_args = instruction.into(params.extra_args)
    if params.n > 1:
        own.n = 1
        own.seed = None if params.seed is None else params.seed + number
    return own


def begins_in_reasoning(prompt: list[int], start: int, end: int) -> bool:
    """Whether what follows the prompt is reasoning: unless the last marker in it is the one that ends it."""
    for token in reversed(prompt):
        if token in (start, end):
            return token == start
    return True


def _is_cumulative(params: SamplingParams) -> bool:
    return params.output_kind == RequestOutputKind.CUMULATIVE
