"""Compiled policies: each is compiled once and cached in bounded memory; a bounded number of them waits."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
from types import SimpleNamespace
from typing import Any, cast

import pytest

from forkpoint_policies.compile.compiler import CompiledPolicy, ServedModel
from forkpoint_policies.spec import InputError, parse_policy
from forkpoint_server.errors import ApiError
from forkpoint_server.policies.compiled import (
    MAX_BYTES,
    MAX_POLICIES,
    CompiledPolicyCache,
    LabeledPolicy,
    compile_labeled,
)
from tests.unit.policies.vocabularies import TARGET


def policy_of(number: int, label: str = "inline") -> LabeledPolicy:
    return LabeledPolicy(parse_policy({"rules": [{"when": {"after_token": number}, "do": {"observe": {}}}]}), label)


class StubCompiler:
    """Returns a policy that takes some bytes; without any, it raises."""

    def __init__(self, num_bytes: int = 1) -> None:
        self.num_bytes = num_bytes
        self.compiled: list[LabeledPolicy] = []
        self.cache = CompiledPolicyCache(TARGET, self)

    def __call__(self, labeled: LabeledPolicy, model: ServedModel) -> CompiledPolicy:
        assert model is TARGET
        self.compiled.append(labeled)
        if not self.num_bytes:
            raise InputError("policy", "cannot be")
        return cast(CompiledPolicy, SimpleNamespace(policy=labeled.policy, num_bytes=self.num_bytes))


async def test_concurrent_requests_for_one_policy_share_it() -> None:
    compiler = StubCompiler()
    found = await asyncio.gather(*(compiler.cache.get(policy_of(1)) for _ in range(20)))
    assert len({id(compiled) for compiled in found}) == 1
    assert compiler.compiled == [policy_of(1)]


async def test_a_policy_has_the_label_that_it_was_requested_by() -> None:
    cache = CompiledPolicyCache(TARGET)
    for labeled in (policy_of(1), policy_of(1, "own"), LabeledPolicy(policy_of(1).policy)):
        compiled = await cache.get(labeled)
        assert (compiled.policy, compiled.label) == labeled
        assert compiled.is_named is (labeled.label != "none")


def test_a_compiled_policy_is_already_packed() -> None:
    compiled = compile_labeled(policy_of(1), TARGET)
    computed = {"packed", "key", "num_bytes", "digest", "actions"}
    assert computed <= vars(compiled).keys(), "it would be computed on the event loop"
    assert (compiled.packed, compiled.digest) == (compiled.program.pack(), compiled.policy.digest)
    assert compiled.actions == ("observe",)


@pytest.mark.parametrize(("num_bytes", "stored"), [(1, MAX_POLICIES), (MAX_BYTES // 4, 4)])
async def test_the_least_recently_used_are_evicted_first(num_bytes: int, stored: int) -> None:
    compiler = StubCompiler(num_bytes)
    for number in range(stored):
        await compiler.cache.get(policy_of(number))
    await compiler.cache.get(policy_of(0))
    await compiler.cache.get(policy_of(stored))
    assert len(compiler.compiled) == stored + 1
    await compiler.cache.get(policy_of(0))
    assert len(compiler.compiled) == stored + 1
    await compiler.cache.get(policy_of(1))  # it was evicted
    assert len(compiler.compiled) == stored + 2


async def test_a_failure_is_not_cached_and_may_go_unobserved(caplog: Any) -> None:
    compiler = StubCompiler(0)
    for _ in range(2):
        with pytest.raises(InputError):
            await compiler.cache.get(policy_of(1))
    assert len(compiler.compiled) == 2
    held = HeldCompiler(max_waiting=8)
    held.num_bytes = 0
    abandoned = await held.first()
    abandoned.cancel()  # its client is gone
    await asyncio.gather(abandoned, return_exceptions=True)
    held.release(1)
    with pytest.raises(InputError):
        await held.cache.get(policy_of(0))
    gc.collect()
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


class HeldCompiler(StubCompiler):
    """Compiles one policy per `release`."""

    def __init__(self, max_waiting: int) -> None:
        super().__init__()
        self.cache = CompiledPolicyCache(TARGET, self, max_waiting)
        self._released, self._occupied = threading.Semaphore(0), threading.Event()

    def __call__(self, labeled: LabeledPolicy, model: ServedModel) -> CompiledPolicy:
        self._occupied.set()
        assert self._released.acquire(timeout=60)
        return super().__call__(labeled, model)

    async def request(self, number: int) -> asyncio.Task[CompiledPolicy]:
        """A request that has asked for a policy."""
        task = asyncio.create_task(self.cache.get(policy_of(number)))
        await asyncio.sleep(0)
        return task

    async def first(self) -> asyncio.Task[CompiledPolicy]:
        """The request whose policy occupies the thread."""
        task = await self.request(0)
        assert await asyncio.to_thread(self._occupied.wait, 60)
        return task

    def release(self, number: int) -> None:
        self._released.release(number)


async def test_what_all_requests_have_left_is_not_compiled() -> None:
    compiler = HeldCompiler(max_waiting=8)
    first = await compiler.first()
    leaving = [await compiler.request(number) for number in (1, 2, 2, 3)]
    staying = await compiler.request(3)
    for task in leaving:
        task.cancel()
    await asyncio.gather(*leaving, return_exceptions=True)
    compiler.release(2)
    await asyncio.gather(first, staying)
    assert compiler.compiled == [policy_of(0), policy_of(3)]
    compiler.release(1)
    await compiler.cache.get(policy_of(1))  # it can be requested again
    assert compiler.compiled == [policy_of(0), policy_of(3), policy_of(1)]


async def test_a_policy_is_requested_again_while_the_one_that_was_left_is_being_cancelled() -> None:
    compiler = HeldCompiler(max_waiting=8)
    first, leaving = await compiler.first(), await compiler.request(1)
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    again = await compiler.request(1)
    compiler.release(2)
    await asyncio.gather(first, again)
    assert compiler.compiled == [policy_of(0), policy_of(1)]


async def test_what_is_being_compiled_is_stored_although_its_request_has_left() -> None:
    compiler = HeldCompiler(max_waiting=8)
    first = await compiler.first()
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    compiler.release(1)
    await compiler.cache.get(policy_of(0))
    assert compiler.compiled == [policy_of(0)]


async def test_so_many_policies_may_wait_and_no_more() -> None:
    compiler = HeldCompiler(max_waiting=3)
    waiting = [await compiler.first(), *[await compiler.request(number) for number in (1, 2, 3)]]
    with pytest.raises(ApiError, match="wait to be compiled") as refused:
        await compiler.cache.get(policy_of(4))
    assert refused.value.status == 503
    assert refused.value.retry_seconds
    waiting.append(await compiler.request(3))  # one that waits already takes no more room
    waiting[1].cancel()
    await asyncio.sleep(0)
    waiting.append(await compiler.request(5))  # there is room again
    compiler.release(4)
    await asyncio.gather(*(task for task in waiting if task is not waiting[1]))
    assert compiler.compiled == [policy_of(number) for number in (0, 2, 3, 5)]


async def test_caches_do_not_wait_for_each_other() -> None:
    held, other = HeldCompiler(max_waiting=3), StubCompiler()
    first = await held.first()
    await other.cache.get(policy_of(7))
    assert not first.done()
    held.release(1)
    await first


async def test_for_another_model_policies_are_compiled_anew() -> None:
    compiler = StubCompiler()
    await compiler.cache.get(policy_of(1))
    compiler.cache.use_model(TARGET)
    await compiler.cache.get(policy_of(1))
    assert len(compiler.compiled) == 2
