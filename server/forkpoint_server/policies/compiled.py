"""A bounded cache of compiled policies: each is compiled once, and the least recently used are evicted first."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import NamedTuple

from forkpoint_policies.compile.compiler import CompiledPolicy, ServedModel, compile_policy
from forkpoint_policies.spec import Policy

MAX_POLICIES = 512
MAX_PACKED_BYTES = 1 << 24
"""Of all programs as they are sent; in the server's memory a program takes about fifteen times as much."""

_THREAD = ThreadPoolExecutor(1, "forkpoint-compile")
"""A thread for compilation alone: a client that sends many large policies delays only new policies."""


class LabeledPolicy(NamedTuple):
    """A policy with its name in metrics, of which there is a bounded number: every inline policy is `inline`.

    The label `none` is for requests that are only observed.
    """

    policy: Policy
    label: str = "none"


def compile_labeled(labeled: LabeledPolicy, model: ServedModel) -> CompiledPolicy:
    """Compile and pack a policy. Raises InputError where the served model's tokenizer cannot express it."""
    compiled = replace(compile_policy(labeled.policy, model), label=labeled.label)
    _ = compiled.packed, compiled.key  # computed here, off the event loop
    return compiled


class CompiledPolicyCache:
    """Compiles policies for `model`, each once. `compile_one` takes up to a second and raises InputError."""

    def __init__(
        self, model: ServedModel, compile_one: Callable[[LabeledPolicy, ServedModel], CompiledPolicy] = compile_labeled
    ) -> None:
        self._model = model
        self._compile_one = compile_one
        self._tasks: OrderedDict[LabeledPolicy, asyncio.Task[CompiledPolicy]] = OrderedDict()
        self._bytes = 0

    @property
    def model(self) -> ServedModel:
        return self._model

    def use_model(self, model: ServedModel) -> None:
        """Compile for this model from now on, and forget what was compiled for the previous one."""
        self._model = model
        self._tasks.clear()
        self._bytes = 0

    async def get(self, labeled: LabeledPolicy) -> CompiledPolicy:
        """The compiled policy. Requests for a new one share one compilation, in a thread. Raises InputError."""
        task = self._tasks.get(labeled)
        if task is None:
            task = self._tasks[labeled] = asyncio.create_task(self._compile(labeled))
            task.add_done_callback(lambda done: self._store(labeled, done))
        self._tasks.move_to_end(labeled)
        return await asyncio.shield(task)  # others may wait for it when this request's client disconnects

    async def _compile(self, labeled: LabeledPolicy) -> CompiledPolicy:
        return await asyncio.get_running_loop().run_in_executor(_THREAD, self._compile_one, labeled, self._model)

    def _store(self, labeled: LabeledPolicy, task: asyncio.Task[CompiledPolicy]) -> None:
        if self._tasks.get(labeled) is not task:
            return
        if task.cancelled() or task.exception() is not None:
            del self._tasks[labeled]
            return
        self._bytes += len(task.result().packed)
        while len(self._tasks) > MAX_POLICIES or (self._bytes > MAX_PACKED_BYTES and len(self._tasks) > 1):
            self._bytes -= _counted_bytes(self._tasks.popitem(last=False)[1])


def _counted_bytes(task: asyncio.Task[CompiledPolicy]) -> int:
    """The bytes that an entry was counted with; an unfinished one was not counted."""
    return len(task.result().packed) if task.done() and not task.cancelled() and task.exception() is None else 0
