"""A bounded cache of compiled policies: each is compiled once, and the least recently used are evicted first."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import NamedTuple

from forkpoint_policies.compile.compiler import CompiledPolicy, ServedModel, compile_policy
from forkpoint_policies.spec import Policy
from forkpoint_server.errors import ApiError

MAX_POLICIES = 512
MAX_BYTES = 1 << 28
"""The memory of all compiled policies in a cache."""
MAX_WAITING = 64
"""Policies that wait for the thread that compiles them; one more is refused."""
RETRY_SECONDS = 5


class LabeledPolicy(NamedTuple):
    """A policy with its name in metrics, of which there is a bounded number: every inline policy is `inline`.

    The label `none` is for requests that are only observed.
    """

    policy: Policy
    label: str = "none"


def compile_labeled(labeled: LabeledPolicy, model: ServedModel) -> CompiledPolicy:
    """Compile and pack a policy. Raises InputError where the served model's tokenizer cannot express it."""
    compiled = replace(compile_policy(labeled.policy, model), label=labeled.label)
    _ = (
        compiled.packed,
        compiled.key,
        compiled.num_bytes,
        compiled.digest,
        compiled.actions,
    )  # computed here, off the event loop
    return compiled


@dataclass(eq=False)
class _Compilation:
    """One policy's compilation: `task` is the thread's, `result` the event loop's view of it."""

    task: Future[CompiledPolicy]
    result: asyncio.Future[CompiledPolicy]
    num_requests: int = 0  # that wait for it
    num_bytes: int = 0  # that it is counted with, once it is stored


class CompiledPolicyCache:
    """Compiles policies for `model`, each once, in a thread of its own.

    `compile_one` takes up to a second and raises InputError. What all of its requests have left before it started is
    not compiled.
    """

    def __init__(
        self,
        model: ServedModel,
        compile_one: Callable[[LabeledPolicy, ServedModel], CompiledPolicy] = compile_labeled,
        max_waiting: int = MAX_WAITING,
    ) -> None:
        self._model = model
        self._compile_one = compile_one
        self._max_waiting = max_waiting
        self._thread = ThreadPoolExecutor(1, "forkpoint-compile")
        self._compilations: OrderedDict[LabeledPolicy, _Compilation] = OrderedDict()
        self._unfinished: set[_Compilation] = set()  # the one that runs, and those that wait
        self._bytes = 0

    @property
    def model(self) -> ServedModel:
        return self._model

    def use_model(self, model: ServedModel) -> None:
        """Compile for this model from now on, and forget what was compiled for the previous one."""
        self._model = model
        self._compilations.clear()
        self._bytes = 0

    async def get(self, labeled: LabeledPolicy) -> CompiledPolicy:
        """The compiled policy. Requests for a new one share one compilation.

        Raises InputError, and ApiError (503) where too many policies wait.
        """
        compilation = self._compilations.get(labeled)
        if compilation is None:
            compilation = self._start(labeled)
        self._compilations.move_to_end(labeled)
        compilation.num_requests += 1
        try:
            return await asyncio.shield(compilation.result)  # others may wait for it when this client has left
        finally:
            compilation.num_requests -= 1
            if not compilation.num_requests and compilation.task.cancel():  # it has not started, nor ended
                self._forget(labeled, compilation)

    def _start(self, labeled: LabeledPolicy) -> _Compilation:
        if len(self._unfinished) > self._max_waiting:
            raise ApiError(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "policy: too many new policies wait to be compiled; send the request again later",
                "policy",
                retry_seconds=RETRY_SECONDS,
            )
        task = self._thread.submit(self._compile_one, labeled, self._model)
        compilation = self._compilations[labeled] = _Compilation(task, asyncio.wrap_future(task))
        self._unfinished.add(compilation)
        compilation.result.add_done_callback(lambda _: self._store(labeled, compilation))
        return compilation

    def _store(self, labeled: LabeledPolicy, compilation: _Compilation) -> None:
        self._unfinished.discard(compilation)
        failed = compilation.result.cancelled() or compilation.result.exception() is not None
        if self._compilations.get(labeled) is not compilation:
            return
        if failed:
            self._forget(labeled, compilation)
            return
        compilation.num_bytes = compilation.result.result().num_bytes
        self._bytes += compilation.num_bytes
        while len(self._compilations) > MAX_POLICIES or (self._bytes > MAX_BYTES and len(self._compilations) > 1):
            self._bytes -= self._compilations.popitem(last=False)[1].num_bytes

    def _forget(self, labeled: LabeledPolicy, compilation: _Compilation) -> None:
        self._unfinished.discard(compilation)
        if self._compilations.get(labeled) is compilation:
            del self._compilations[labeled]
