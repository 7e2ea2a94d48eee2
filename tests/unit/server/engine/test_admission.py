"""A background job leaves half of the branches to trees, and always has one request running."""

from __future__ import annotations

import asyncio

from forkpoint_server.engine.admission import BackgroundBudget, EngineCapacity


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_one_job_takes_half() -> None:
    capacity = EngineCapacity(max_branches=8, max_num_seqs=100)
    budget, open_, running, most = BackgroundBudget(capacity), asyncio.Event(), 0, 0

    async def work() -> None:
        nonlocal running, most
        async with budget.slot():
            running += 1
            most = max(most, running)
            await open_.wait()
            running -= 1

    tasks = [asyncio.create_task(work()) for _ in range(10)]
    await settle()
    assert (running, most) == (4, 4)
    assert capacity.has_room(), "for the branches of others"
    open_.set()
    await asyncio.gather(*tasks)
    assert most == 4


async def test_two_jobs_share_the_half_and_each_has_at_least_one() -> None:
    capacity = EngineCapacity(max_branches=4, max_num_seqs=100)
    running = {0: 0, 1: 0}

    async def work(number: int) -> None:
        async with budgets[number].slot():
            running[number] += 1
            await asyncio.sleep(3600)

    budgets = [BackgroundBudget(capacity), BackgroundBudget(capacity)]
    tasks = [asyncio.create_task(work(number)) for number in (0, 0, 0, 1, 1)]
    await settle()
    assert running == {0: 2, 1: 1}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert capacity.has_background_room()


async def test_work_waits_for_capacity_when_the_engine_is_full() -> None:
    capacity = EngineCapacity(max_branches=100, max_num_seqs=2)
    capacity.add_request()
    capacity.add_request()
    first, second = BackgroundBudget(capacity), BackgroundBudget(capacity)
    assert not capacity.has_room()
    got = []

    async def work(name: str) -> None:
        async with first.slot():
            got.append(name)
            await asyncio.sleep(3600 if name == "held" else 0)

    held = asyncio.create_task(work("held"))
    waiting = asyncio.create_task(work("waiting"))
    await settle()
    assert got == ["held"], "a job always has one request running, however full the engine is"
    held.cancel()
    await settle()
    assert got == ["held", "waiting"]
    async with second.slot():
        pass
    await waiting
    capacity.remove_request()
    capacity.remove_request()
    assert capacity.has_room()
