"""Compiled policies: each once, in a bounded memory, and a failure is not kept."""

from __future__ import annotations

import asyncio
import gc
import logging
from types import SimpleNamespace
from typing import Any, cast

import pytest

from forkpoint_policies.spec import InputError, Policy, parse_policy
from forkpoint_server.policies.compiled import MAX_PACKED_BYTES, MAX_PLANS, Plan, Plans


def policy_of(number: int) -> Policy:
    return parse_policy({"rules": [{"when": {"after_token": number}, "do": {"observe": {}}}]})


class Compiler:
    """Stands for the compiler: a plan of some bytes, or an error."""

    def __init__(self, packed: bytes = b"x") -> None:
        self.packed = packed
        self.compiled: list[Policy] = []

    def __call__(self, policy: Policy) -> Plan:
        self.compiled.append(policy)
        if not self.packed:
            raise InputError("policy", "cannot be")
        return cast(Plan, SimpleNamespace(policy=policy, packed=self.packed))


async def test_many_that_ask_for_one_at_once_share_it() -> None:
    compiler = Compiler()
    plans = Plans(compiler)
    found = await asyncio.gather(*(plans.get(policy_of(1)) for _ in range(20)))
    assert len({id(plan) for plan in found}) == 1
    assert compiler.compiled == [policy_of(1)]


@pytest.mark.parametrize(("packed", "kept"), [(b"x", MAX_PLANS), (b"x" * (MAX_PACKED_BYTES // 4), 4)])
async def test_the_least_recently_used_go_first(packed: bytes, kept: int) -> None:
    compiler = Compiler(packed)
    plans = Plans(compiler)
    for number in range(kept):
        await plans.get(policy_of(number))
    await plans.get(policy_of(0))
    await plans.get(policy_of(kept))
    assert len(compiler.compiled) == kept + 1
    await plans.get(policy_of(0))
    assert len(compiler.compiled) == kept + 1
    await plans.get(policy_of(1))  # which had to go
    assert len(compiler.compiled) == kept + 2


async def test_a_failure_is_not_kept_and_nobody_needs_to_hear_it(caplog: Any) -> None:
    compiler = Compiler(b"")
    plans = Plans(compiler)
    for _ in range(2):
        with pytest.raises(InputError):
            await plans.get(policy_of(1))
    assert len(compiler.compiled) == 2
    left = asyncio.create_task(plans.get(policy_of(2)))
    await asyncio.sleep(0)
    left.cancel()  # its client is gone
    await asyncio.gather(left, return_exceptions=True)
    await asyncio.sleep(0.2)
    assert len(compiler.compiled) == 3
    gc.collect()
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


async def test_what_is_cleared_is_compiled_anew() -> None:
    compiler = Compiler()
    plans = Plans(compiler)
    await plans.get(policy_of(1))
    plans.clear()
    await plans.get(policy_of(1))
    assert len(compiler.compiled) == 2
