"""Compiled policies: each is compiled once and cached in bounded memory; failures are not cached."""

from __future__ import annotations

import asyncio
import gc
import logging
from types import SimpleNamespace
from typing import Any, cast

import pytest

from forkpoint_policies.compile.compiler import CompiledPolicy, ServedModel
from forkpoint_policies.spec import InputError, parse_policy
from forkpoint_server.policies.compiled import (
    MAX_PACKED_BYTES,
    MAX_POLICIES,
    CompiledPolicyCache,
    LabeledPolicy,
    compile_labeled,
)
from tests.unit.policies.vocabularies import TARGET


def policy_of(number: int, label: str = "inline") -> LabeledPolicy:
    return LabeledPolicy(parse_policy({"rules": [{"when": {"after_token": number}, "do": {"observe": {}}}]}), label)


class StubCompiler:
    """Returns a policy whose program packs to some bytes; without any, it raises."""

    def __init__(self, packed: bytes = b"x") -> None:
        self.packed = packed
        self.compiled: list[LabeledPolicy] = []
        self.cache = CompiledPolicyCache(TARGET, self)

    def __call__(self, labeled: LabeledPolicy, model: ServedModel) -> CompiledPolicy:
        assert model is TARGET
        self.compiled.append(labeled)
        if not self.packed:
            raise InputError("policy", "cannot be")
        return cast(CompiledPolicy, SimpleNamespace(policy=labeled.policy, packed=self.packed))


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
    assert {"packed", "key"} <= vars(compiled).keys(), "it would be packed on the event loop"
    assert (compiled.packed, compiled.digest) == (compiled.program.pack(), compiled.policy.digest)
    assert compiled.actions == ("observe",)


@pytest.mark.parametrize(("packed", "stored"), [(b"x", MAX_POLICIES), (b"x" * (MAX_PACKED_BYTES // 4), 4)])
async def test_the_least_recently_used_are_evicted_first(packed: bytes, stored: int) -> None:
    compiler = StubCompiler(packed)
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
    compiler = StubCompiler(b"")
    for _ in range(2):
        with pytest.raises(InputError):
            await compiler.cache.get(policy_of(1))
    assert len(compiler.compiled) == 2
    abandoned = asyncio.create_task(compiler.cache.get(policy_of(2)))
    await asyncio.sleep(0)
    abandoned.cancel()  # its client is gone
    await asyncio.gather(abandoned, return_exceptions=True)
    await asyncio.sleep(0.2)
    assert len(compiler.compiled) == 3
    gc.collect()
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


async def test_for_another_model_policies_are_compiled_anew() -> None:
    compiler = StubCompiler()
    await compiler.cache.get(policy_of(1))
    compiler.cache.use_model(TARGET)
    await compiler.cache.get(policy_of(1))
    assert len(compiler.compiled) == 2
