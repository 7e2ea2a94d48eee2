"""Compiled policies, each compiled once, in a bounded memory: the least recently used go first."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property

from forkpoint_policies.compile.compiler import Compiled
from forkpoint_policies.compile.program import Program
from forkpoint_policies.spec import Policy

MAX_PLANS = 512
MAX_PACKED_BYTES = 1 << 24
"""Of all programs as they are sent; in the server's memory a program takes about fifteen times as much."""

_THREAD = ThreadPoolExecutor(1, "forkpoint-compile")
"""One of its own: whoever sends many large policies waits for them, and nobody else does."""


class Plans:
    """Plans by policy. `compiled` takes up to a second, and raises InputError."""

    def __init__(self, compiled: Callable[[Policy], Plan]) -> None:
        self._compiled = compiled
        self._making: OrderedDict[Policy, asyncio.Task[Plan]] = OrderedDict()
        self._bytes = 0

    def clear(self) -> None:
        """Forget all: what is asked for next is compiled anew."""
        self._making.clear()
        self._bytes = 0

    async def get(self, policy: Policy) -> Plan:
        """The compiled policy; however many requests bring a new one at once, it is compiled once, and not in the event loop."""
        making = self._making.get(policy)
        if making is None:
            making = self._making[policy] = asyncio.create_task(self._made(policy))
            making.add_done_callback(lambda task: self._ended(policy, task))
        self._making.move_to_end(policy)
        return await asyncio.shield(making)  # others may wait for it when this request's client leaves

    async def _made(self, policy: Policy) -> Plan:
        return await asyncio.get_running_loop().run_in_executor(_THREAD, self._compiled, policy)

    def _ended(self, policy: Policy, task: asyncio.Task[Plan]) -> None:
        if self._making.get(policy) is not task:
            return
        if task.cancelled() or task.exception() is not None:
            del self._making[policy]
            return
        self._bytes += len(task.result().packed)
        while len(self._making) > MAX_PLANS or (self._bytes > MAX_PACKED_BYTES and len(self._making) > 1):
            self._bytes -= _size(self._making.popitem(last=False)[1])


def _size(task: asyncio.Task[Plan]) -> int:
    """What a plan was counted as: one that is still being made was not."""
    return len(task.result().packed) if task.done() and not task.cancelled() and task.exception() is None else 0


@dataclass(frozen=True)
class Plan:
    """A compiled policy, ready to be sent: `packed` is the program and `key` its name in the worker."""

    policy: Policy
    compiled: Compiled
    packed: bytes
    key: str

    @property
    def program(self) -> Program:
        return self.compiled.program

    @cached_property
    def actions(self) -> tuple[str, ...]:
        """The action of each compiled rule, by the name that the user wrote."""
        return tuple(self.policy.rules[rule.number].do.action for rule in self.program.rules)

    @cached_property
    def digest(self) -> str:
        return self.policy.digest
