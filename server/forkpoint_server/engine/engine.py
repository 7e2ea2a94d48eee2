"""The decorated engine: the only place where requests are changed on their way into vLLM."""

from __future__ import annotations

import asyncio
import itertools
import secrets
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from forkpoint_policies.spec import Branch, Rule, max_answers, returns_several
from forkpoint_policies.worker.payload import PolicyPayload, without_instruction
from forkpoint_server import metrics
from forkpoint_server.branching.controllers import controller_of
from forkpoint_server.branching.runner import Begin, TreeRunner
from forkpoint_server.policies.eligibility import check_branches
from forkpoint_server.requests.context import RequestContext, current
from forkpoint_server.requests.progress import (
    drop_default_policy,
    finish_choice,
    leave_experiment,
    open_traces,
    start_engine_request,
)
from forkpoint_server.requests.tree import Limits
from forkpoint_server.traces.trace import Trace
from forkpoint_server.vllm_seam import (
    EngineClient,
    RequestOutput,
    RequestOutputKind,
    SamplingParams,
    VLLMServerError,
    VLLMValidationError,
)

from .admission import EngineCapacity, Shared
from .payload import initial_state, payload_of, signed_seed, with_payload


@dataclass(frozen=True)
class BranchLimits:
    """The most answers of one request's tree, and the most branches that run at once, of all requests together."""

    per_request: int
    together: int


class InterveningEngine:
    """Stands for vLLM's EngineClient: forwards everything, and attaches the current intervention to what is generated."""

    def __init__(self, engine: EngineClient, limits: BranchLimits) -> None:
        self._engine = engine
        self._limits = limits
        parallel = (
            engine.vllm_config.parallel_config
        )  # where others balance the load, this server has only its own ranks
        self._ranks = parallel.data_parallel_size_local if parallel.local_engines_only else parallel.data_parallel_size
        self._places = EngineCapacity(limits.together, engine.vllm_config.scheduler_config.max_num_seqs * self._ranks)
        self.shared = Shared(self._places)
        self._turns = itertools.count()
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
        if intervention is not None and intervention.enrolment is not None:
            self._enter(intervention, params, prompt)
        if intervention is not None and intervention.is_default and intervention.tree_rule is not None:
            _give_way(intervention, params, prompt)
        if intervention is None or intervention.inactive:
            return self._watched(self._engine.generate(prompt, params, request_id, **options), choices=params.n)
        intervention.engine_id = intervention.engine_id or _response_name(request_id)
        intervention.prompt = prompt.get("prompt_token_ids") or () if isinstance(prompt, dict) else ()
        tree_rule = intervention.tree_rule
        if tree_rule is not None:
            return self._tree(prompt, params, request_id, options, intervention, tree_rule)
        traces = open_traces(intervention, params.n)
        begin = initial_state(intervention.compiled.program, prompt)
        branches = [with_payload(params, intervention, trace, number, begin) for number, trace in enumerate(traces)]
        if len(branches) == 1:
            start_engine_request(intervention, request_id, traces[0])
            outputs = self._engine.generate(prompt, branches[0], request_id, **options)
            return self._watched(outputs, intervention, traces[0], _is_cumulative(params))
        return self._several(prompt, branches, traces, request_id, options, intervention)

    def directly(
        self,
        prompt: Any,
        params: SamplingParams,
        request_id: str,
        instruction: PolicyPayload | None = None,
        **options: Any,
    ) -> AsyncGenerator[RequestOutput, None]:
        """Run a request that the server began by itself, outside any client's; it has a turn of `shared`."""
        own = params.clone()
        own.extra_args = None if instruction is None else instruction.into(None)
        return self._engine.generate(prompt, own, request_id, **options)

    def one_rank(self) -> dict[str, Any]:
        """The option that keeps requests which share a beginning where it is cached: on one data-parallel rank."""
        return {"data_parallel_rank": next(self._turns) % self._ranks} if self._ranks > 1 else {}

    async def abort(self, request_id: str | Iterable[str], **options: Any) -> None:
        """As AsyncLLM.abort; the choices of a request go with it."""
        asked = [request_id] if isinstance(request_id, str) else list(request_id)
        children = [child for name in asked for child in self._children.get(name, ())]
        await self._engine.abort([*asked, *children], **options)

    def _enter(self, intervention: RequestContext, params: SamplingParams, prompt: Any) -> None:
        """A request of an experiment in which some arm grows trees: if this one could not, it is in no arm."""
        assert intervention.enrolment is not None
        if intervention.enrolment.grows and not intervention.traces:
            try:
                check_branches(params, prompt)
            except VLLMValidationError:
                leave_experiment(intervention)
        intervention.num_prompt_tokens += len(prompt.get("prompt_token_ids") or ()) if isinstance(prompt, dict) else 0

    async def _watched(
        self,
        outputs: AsyncGenerator[RequestOutput, None],
        intervention: RequestContext | None = None,
        trace: Trace | None = None,
        cumulative: bool = False,
        choices: int = 1,
    ) -> AsyncGenerator[RequestOutput, None]:
        """Pass on what the engine gives, keep the tokens of a trace, and count how each choice ends.

        One that the engine or its client's leaving ended is an `error` or an `abort`; a request that it refused has no choices.
        """
        running = choices

        def finished(reason: str) -> None:
            if intervention is None:
                metrics.REQUESTS.labels("none", "", reason).inc()
            else:
                finish_choice(intervention, reason)

        try:
            outputs = self._counted_inside(outputs)
            async with aclosing(outputs if trace is None else _kept(outputs, trace, cumulative)) as watched:
                async for output in watched:
                    for choice in output.outputs:
                        if choice.finish_reason is not None:
                            running -= 1
                            finished(choice.finish_reason)
                    yield output
        except (asyncio.CancelledError, GeneratorExit):
            for _ in range(running):
                finished("abort")
            raise
        except VLLMServerError:
            for _ in range(running):
                finished("error")
            raise

    def _tree(
        self,
        prompt: Any,
        params: SamplingParams,
        request_id: str,
        options: dict[str, Any],
        intervention: RequestContext,
        rule: Rule,
    ) -> AsyncGenerator[RequestOutput, None]:
        """Run a request that grows a tree. Raises VLLMValidationError for what a branch could not go on with."""
        action = rule.tree_action
        assert action is not None
        check_branches(params, prompt)
        most = self._limits.per_request if returns_several(action) else 1
        if params.n > most:
            raise VLLMValidationError(f"n: is {params.n}; under this policy it is at most {most} here", parameter="n")
        if intervention.tree is not None:
            raise VLLMValidationError(
                "prompt: a policy that grows a tree takes one prompt a request", parameter="prompt"
            )
        if options.get("data_parallel_rank") is None:
            options = {**options, **self.one_rank()}
        prompt_tokens = list(prompt["prompt_token_ids"])
        begin = initial_state(intervention.compiled.program, prompt)
        seed = secrets.randbits(62) if params.seed is None else signed_seed(params.seed)
        answers = max_answers(action, params.n, self._limits.per_request)
        likelihoods = isinstance(action, Branch) and action.select == "likelihood"
        longest = self._engine.model_config.max_model_len

        def start(trace: Trace, begun: Begin) -> AsyncGenerator[RequestOutput, None]:
            own = params.clone()
            own.n, own.output_kind = 1, RequestOutputKind.DELTA
            own.seed = begun.seed if params.seed is not None else None
            own.min_tokens = max(0, params.min_tokens - len(begun.tokens))
            left = (longest - len(prompt_tokens) if params.max_tokens is None else params.max_tokens) - len(
                begun.tokens
            )
            own.max_tokens = left if begun.most_tokens is None else min(left, begun.most_tokens)
            if begun.greedy:
                own.temperature, own.top_p, own.top_k, own.min_p = 0.0, 1.0, 0, 0.0
            own.logprobs = 0 if likelihoods and params.logprobs is None else params.logprobs
            if not begun.first:
                own.prompt_logprobs = None
            instruction = payload_of(intervention, trace, begun.seed, begun)
            own.extra_args = instruction.into(params.extra_args)
            whole: Any = {**prompt, "prompt_token_ids": prompt_tokens + begun.tokens}
            whole.pop("prompt", None)
            name = request_id if begun.first else f"{trace.handle}_{request_id}"
            start_engine_request(intervention, name, trace)
            outputs = self._engine.generate(whole, own, name, **options)
            return self._counted_inside(outputs) if begun.first else self._named(outputs, name, request_id)

        origin, places = Begin([], seed, begin.word_state, begin.in_reasoning), self._places
        growth = TreeRunner(
            intervention, params, request_id, origin, seed, Limits(answers, places.room, places.take, places.release),
            lambda trace, begun: _kept(start(trace, begun), trace),
        )  # fmt: skip
        return growth.outputs(controller_of(growth, rule))

    async def _counted_inside(
        self, outputs: AsyncGenerator[RequestOutput, None]
    ) -> AsyncGenerator[RequestOutput, None]:
        """Count a request as long as the engine has it."""
        self._places.enter()
        try:
            async with aclosing(outputs):
                async for output in outputs:
                    yield output
        finally:
            self._places.leave()

    async def _named(
        self, outputs: AsyncGenerator[RequestOutput, None], name: str, request_id: str
    ) -> AsyncGenerator[RequestOutput, None]:
        """Keep a branch's name as long as it runs, so that an abort finds it."""
        self._children.setdefault(request_id, []).append(name)
        try:
            async with aclosing(outputs):
                async for output in outputs:
                    yield output
        finally:
            self._forget(request_id, [name])

    def _forget(self, request_id: str, names: list[str]) -> None:
        for name in names:
            self._children[request_id].remove(name)
        if not self._children[request_id]:
            del self._children[request_id]

    async def _several(
        self,
        prompt: Any,
        branches: list[SamplingParams],
        traces: list[Trace],
        request_id: str,
        options: dict[str, Any],
        intervention: RequestContext,
    ) -> AsyncGenerator[RequestOutput, None]:
        """Run the choices side by side and give them out as vLLM does: as they come, or all together at the end."""
        cumulative = _is_cumulative(branches[0])
        together = branches[0].output_kind == RequestOutputKind.FINAL_ONLY
        arrived: asyncio.Queue[tuple[int, RequestOutput | BaseException | None]] = asyncio.Queue()
        names = [f"{number}_{request_id}" for number in range(len(branches))]

        async def run(number: int) -> None:
            start_engine_request(intervention, names[number], traces[number])
            outputs = self._engine.generate(prompt, branches[number], names[number], **options)
            try:
                async with aclosing(self._watched(outputs, intervention, traces[number], cumulative)) as watched:
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
            self._forget(request_id, names)


async def _kept(
    outputs: AsyncGenerator[RequestOutput, None], trace: Trace, cumulative: bool = False
) -> AsyncGenerator[RequestOutput, None]:
    """Pass on what the engine gives, and keep the tokens of a trace."""
    async with aclosing(outputs):
        async for output in outputs:
            for choice in output.outputs:
                if cumulative:
                    trace.tokens.clear()
                trace.tokens.extend(choice.token_ids)
                trace.ended |= choice.finish_reason is not None
            yield output


def _response_name(request_id: str) -> str:
    """What vLLM calls the response of an engine request: those of completions are numbered, by their prompts."""
    return request_id.rpartition("-")[0] if request_id.startswith("cmpl-") else request_id


def _give_way(intervention: RequestContext, params: SamplingParams, prompt: Any) -> None:
    """Do without a default policy that branches where a branch could not go on."""
    try:
        check_branches(params, prompt)
    except VLLMValidationError:
        drop_default_policy(intervention)


def _is_cumulative(params: SamplingParams) -> bool:
    return params.output_kind == RequestOutputKind.CUMULATIVE
