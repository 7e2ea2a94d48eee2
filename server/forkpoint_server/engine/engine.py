"""The decorated engine: the only place where requests change on their way into vLLM."""

from __future__ import annotations

import asyncio
import itertools
import secrets
from collections.abc import AsyncGenerator, Callable, Iterable, Set
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any

from forkpoint_policies.spec import Branch, Rule, TreeAction, max_answers, returns_several
from forkpoint_policies.worker.payload import PolicyPayload, without_payload
from forkpoint_server import metrics
from forkpoint_server.branching.controllers import controller_of
from forkpoint_server.branching.runner import TreeRunner
from forkpoint_server.policies.eligibility import check_branches, check_policy_logprobs, limit_warnings
from forkpoint_server.requests.context import RequestContext, current
from forkpoint_server.requests.progress import (
    drop_default_policy,
    finish_choice,
    leave_experiment,
    open_traces,
    start_engine_request,
)
from forkpoint_server.shutdown import STOPPING, raise_if_refused
from forkpoint_server.structured_outputs.request import ban_words
from forkpoint_server.traces.trace import Trace
from forkpoint_server.vllm_seam import (
    EngineClient,
    RequestOutput,
    RequestOutputKind,
    SamplingParams,
    VLLMServerError,
    VLLMValidationError,
)

from .admission import BackgroundBudget, EngineCapacity
from .cache_salt import salted_prompt, tree_salt
from .derived_params import bounded_params, derived_params
from .early_ends import AnswerStops, as_requested, cut_at_stops, cut_at_written_end, stops_in_answer, writes_end
from .encodable import check_encodable
from .grammar_conflicts import name_conflicts
from .monitor import EngineMonitor
from .parallel_sampling import merge_choices
from .payload import choice_params, initial_state, plain_params, prompt_tokens_of, reserve_programs, signed_seed
from .request import ChildRequests, EngineRequest
from .tree_requests import TreeRequests, store_tokens


@dataclass(frozen=True)
class BranchLimits:
    """The most answers of one request's tree, and the most branches that run at once, of all requests.

    `num_servers` share the engine: each counts its own requests, and leaves the others their part of the places.
    """

    max_branches: int
    max_live_branches: int
    num_servers: int = 1


class InterveningEngine:
    """Wraps vLLM's EngineClient: forwards everything, and applies the current request's policy to what is generated.

    `silent` are the model's tokens that write no text.
    """

    def __init__(
        self,
        engine: EngineClient,
        limits: BranchLimits,
        is_stopping: Callable[[], bool] = lambda: False,
        silent: Set[int] = frozenset(),
    ) -> None:
        self._engine = engine
        self._limits = limits
        self._is_stopping = is_stopping
        self._silent = silent
        parallel = engine.vllm_config.parallel_config
        # where something else balances the load, this server has only its own ranks
        self._num_ranks = (
            parallel.data_parallel_size_local if parallel.local_engines_only else parallel.data_parallel_size
        )
        max_num_seqs = engine.vllm_config.scheduler_config.max_num_seqs * self._num_ranks
        self._capacity = EngineCapacity(limits.max_live_branches, max(max_num_seqs // limits.num_servers, 1))
        self._monitor = EngineMonitor(engine.is_sleeping)
        self._next_rank = itertools.count()
        self._children = ChildRequests()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def generate(
        self, prompt: Any, sampling_params: SamplingParams, request_id: str, **options: Any
    ) -> AsyncGenerator[RequestOutput, None]:
        """As EngineClient.generate. With several choices under a policy, each is an engine request of its own.

        Raises VLLMValidationError for what the engine cannot read, or this policy cannot continue.
        """
        params = sampling_params.clone()
        params.extra_args = without_payload(params.extra_args)
        check_encodable(params)
        context = current.get()  # read here, in the handler's context; the generator may run in another

        # does a policy apply?
        if context is not None:
            self._check_eligibility(context, params, prompt)
        in_answer = context is not None and stops_in_answer(context, params)
        if context is None or (context.inactive and not in_answer):
            outputs = self._generate(prompt, params, request_id, **options)
            return self._observed(outputs, num_choices=params.n, adapter=options.get("lora_request"))
        if context.options.policy_logprobs:
            check_policy_logprobs(params, speculative=self._engine.vllm_config.speculative_config is not None)
        prompt_tokens = prompt_tokens_of(prompt)
        context.engine_id = context.engine_id or _response_id(request_id)
        context.prompt = prompt_tokens
        request = EngineRequest(prompt, params, request_id, options, context)
        if not context.inactive:
            reserve_programs(context, params.n)

        # a tree
        if context.tree_rule is not None and not context.inactive:
            return self._run_tree(request, context.tree_rule)

        # one choice, or several
        start = initial_state(context, prompt_tokens, options=options)
        choices: list[tuple[SamplingParams, Trace | None]]
        if context.inactive:
            choices = [(plain_params(params, number), None) for number in range(params.n)]
        else:
            by_request = not context.is_default and context.enrolment is None
            ban_words(params, context.compiled.policy, context.model, self._engine, by_request)
            traces = open_traces(context, params.n, start)
            choices = [
                (choice_params(params, context, trace, number, start), trace) for number, trace in enumerate(traces)
            ]
        if not context.inactive:
            compiled = context.compiled
            prompt = salted_prompt(prompt, compiled.program, compiled.key, start, prompt_tokens)
            request = replace(request, prompt=prompt)
        if len(choices) == 1:
            return self._run_choice(request, *choices[0], request_id, start.region)
        return self._run_choices(request, choices, start.region)

    def generate_background(
        self, prompt: Any, params: SamplingParams, request_id: str, payload: PolicyPayload | None = None, **options: Any
    ) -> AsyncGenerator[RequestOutput, None]:
        """Run a request of a background job, in a slot of its budget."""
        own = derived_params(params, extra_args=None if payload is None else payload.into(None))
        return self._engine.generate(prompt, own, request_id, **options)

    def background_budget(self) -> BackgroundBudget:
        """The budget of one more background job."""
        return BackgroundBudget(self._capacity)

    def failure(self) -> str | None:
        """What is wrong with the engine, if it stops, or takes requests and answers nothing; None otherwise."""
        return STOPPING if self._is_stopping() else self._monitor.failure()

    def rank_options(self) -> dict[str, Any]:
        """The option that keeps requests with a common prefix on one data-parallel rank, where it is cached."""
        return {"data_parallel_rank": next(self._next_rank) % self._num_ranks} if self._num_ranks > 1 else {}

    async def abort(self, request_id: str | Iterable[str], **options: Any) -> None:
        """As AsyncLLM.abort; aborts the children of a request too."""
        request_ids = [request_id] if isinstance(request_id, str) else list(request_id)
        children = [child for name in request_ids for child in self._children.of(name)]
        await self._engine.abort([*request_ids, *children], **options)

    def _check_eligibility(self, context: RequestContext, params: SamplingParams, prompt: Any) -> None:
        """Leave an experiment, or drop the default policy, if some policy of it branches and this request cannot."""
        if context.enrolment is not None:
            if context.enrolment.has_tree_arm and not context.traces and not _can_branch(params, prompt):
                leave_experiment(context)
            context.num_prompt_tokens += len(prompt_tokens_of(prompt))
        if context.is_default and context.tree_rule is not None and not _can_branch(params, prompt):
            drop_default_policy(context)

    def _run_choice(
        self, request: EngineRequest, params: SamplingParams, trace: Trace | None, request_id: str, region: int
    ) -> AsyncGenerator[RequestOutput, None]:
        """Run one choice, which starts in this region; one without a trace is only observed."""
        context = request.context
        if trace is not None:
            start_engine_request(context, request_id, trace)
        in_answer, ends = stops_in_answer(context, params), trace is not None and writes_end(context, params)
        if not in_answer and not ends:
            outputs = self._generate(request.prompt, params, request_id, **request.options)
            cumulative = params.output_kind == RequestOutputKind.CUMULATIVE
            return self._observed(outputs, context, trace, cumulative)

        # an end that vLLM does not see: read deltas, even if the client gets whole texts
        own = derived_params(params, output_kind=RequestOutputKind.DELTA, **({"stop": []} if in_answer else {}))
        outputs = self._generate(request.prompt, own, request_id, **request.options)
        if in_answer:
            tokenizer, prompt_tokens = self._engine.renderer.tokenizer, prompt_tokens_of(request.prompt)
            outputs = cut_at_stops(
                outputs, AnswerStops(tokenizer, prompt_tokens, params, context.model.regions, region)
            )
        return as_requested(self._observed(outputs, context, trace, end=context.model.stop if ends else None), params)

    async def _run_choices(
        self, request: EngineRequest, choices: list[tuple[SamplingParams, Trace | None]], region: int
    ) -> AsyncGenerator[RequestOutput, None]:
        request_ids = [f"{number}_{request.request_id}" for number in range(len(choices))]
        running = [
            self._run_choice(request, *choice, request_id, region)
            for choice, request_id in zip(choices, request_ids, strict=True)
        ]
        final_only = request.params.output_kind == RequestOutputKind.FINAL_ONLY
        with self._children.running(request.request_id, request_ids):
            async with aclosing(merge_choices(request.request_id, running, final_only)) as merged:
                async for output in merged:
                    yield output

    def _run_tree(self, request: EngineRequest, rule: Rule) -> AsyncGenerator[RequestOutput, None]:
        """Run a request that branches. Raises VLLMValidationError for what a branch could not continue."""
        action, context = rule.tree_action, request.context
        assert action is not None
        self._check_tree(request, action)
        prompt_tokens = prompt_tokens_of(request.prompt)
        params = bounded_params(request.params, self._engine.model_config.max_model_len - len(prompt_tokens))
        request = replace(request, params=params)
        if request.options.get("data_parallel_rank") is None:
            request = replace(request, options={**request.options, **self.rank_options()})
        requests = TreeRequests(
            request=request,
            needs_logprobs=isinstance(action, Branch) and action.select == "likelihood",
            children=self._children,
            tokenizer=self._engine.renderer.tokenizer,
            generate_first=self._generate_counted,
            generate=self._engine.generate,
            salt=tree_salt(context.compiled.program),
        )
        seed = secrets.randbits(62) if params.seed is None else signed_seed(params.seed)
        runner = TreeRunner(
            context=context,
            params=params,
            request_id=request.request_id,
            origin=initial_state(context, prompt_tokens, seed, request.options),
            max_answers=max_answers(action, params.n, self._limits.max_branches),
            capacity=self._capacity,
            start_request=requests.start,
        )
        runner.tree.num_requested = params.n if returns_several(action) else None
        context.limit_warnings = limit_warnings(context.compiled.policy, self._limits.max_branches)
        return runner.outputs(controller_of(runner, rule))

    def _check_tree(self, request: EngineRequest, action: TreeAction) -> None:
        check_branches(request.params, request.prompt)
        num_choices, limit = request.params.n, self._limits.max_branches if returns_several(action) else 1
        if num_choices > limit:
            raise VLLMValidationError(
                f"n: is {num_choices}; under this policy it is at most {limit} here", parameter="n"
            )
        if request.context.tree is not None:
            raise VLLMValidationError("prompt: a policy that branches takes one prompt per request", parameter="prompt")

    async def _observed(
        self,
        outputs: AsyncGenerator[RequestOutput, None],
        context: RequestContext | None = None,
        trace: Trace | None = None,
        cumulative: bool = False,
        num_choices: int = 1,
        adapter: Any = None,
        end: int | None = None,
    ) -> AsyncGenerator[RequestOutput, None]:
        """Pass on what the engine returns, store its tokens in the trace, and count how each choice finishes.

        A choice ends in `error` if the engine fails and in `abort` if the client leaves; a rejected request has none.
        `end` is a token that a rule may write as the end of the answer, and that vLLM does not stop at.
        """
        num_running = num_choices
        try:
            outputs = self._counted(outputs)
            if trace is not None:
                outputs = store_tokens(outputs, trace, cumulative)
                outputs = outputs if end is None else cut_at_written_end(outputs, trace, end)
            async with aclosing(outputs) as stored:
                async for output in stored:
                    for choice in output.outputs:
                        if choice.finish_reason is not None:
                            num_running -= 1
                            _count_finished(context, adapter, choice.finish_reason)
                    yield output
        except (asyncio.CancelledError, GeneratorExit):
            for _ in range(num_running):
                _count_finished(context, adapter, "abort")
            raise
        except VLLMServerError:
            for _ in range(num_running):
                _count_finished(context, adapter, "error")
            raise

    def _generate(
        self, prompt: Any, params: SamplingParams, request_id: str, **options: Any
    ) -> AsyncGenerator[RequestOutput, None]:
        outputs = self._engine.generate(prompt, params, request_id, **options)
        return raise_if_refused(name_conflicts(outputs, params, self._silent), self._is_stopping)

    def _generate_counted(
        self, prompt: Any, params: SamplingParams, request_id: str, **options: Any
    ) -> AsyncGenerator[RequestOutput, None]:
        outputs = self._engine.generate(prompt, params, request_id, **options)
        return self._counted(raise_if_refused(outputs, self._is_stopping))

    async def _counted(self, outputs: AsyncGenerator[RequestOutput, None]) -> AsyncGenerator[RequestOutput, None]:
        """Count a client's request for as long as the engine has it."""
        self._capacity.add_request()
        self._monitor.add_request()
        try:
            async with aclosing(outputs):
                async for output in outputs:
                    self._monitor.note_output()
                    yield output
        finally:
            self._capacity.remove_request()
            self._monitor.remove_request()


def _count_finished(context: RequestContext | None, adapter: Any, reason: str) -> None:
    """Count a finished choice; `adapter` is vLLM's LoRARequest of one without a context, if it runs on one."""
    if context is None:
        model_name = metrics.served_model() if adapter is None else adapter.lora_name
        metrics.REQUESTS.labels(model_name, "none", "", reason).inc()
    else:
        finish_choice(context, reason)


def _can_branch(params: SamplingParams, prompt: Any) -> bool:
    try:
        check_branches(params, prompt)
    except VLLMValidationError:
        return False
    return True


def _response_id(request_id: str) -> str:
    """The id of the response that an engine request belongs to: those of completions are numbered by their prompts."""
    return request_id.rpartition("-")[0] if request_id.startswith("cmpl-") else request_id
