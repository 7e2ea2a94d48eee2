"""Who runs in the engine at once: requests that begin many leave half of the places to others, and never stand still."""

from __future__ import annotations

import asyncio

from forkpoint_server.engine.admission import EngineCapacity, Shared


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_one_that_begins_many_takes_half() -> None:
    places = EngineCapacity(together=8, at_once=100)
    turns, open_, running, most = Shared(places).turns(), asyncio.Event(), 0, 0

    async def work() -> None:
        nonlocal running, most
        async with turns.turn():
            running += 1
            most = max(most, running)
            await open_.wait()
            running -= 1

    tasks = [asyncio.create_task(work()) for _ in range(10)]
    await settle()
    assert (running, most) == (4, 4)
    assert places.room(), "for the branches of others"
    open_.set()
    await asyncio.gather(*tasks)
    assert most == 4


async def test_two_of_them_share_the_half_and_each_has_at_least_one() -> None:
    places = EngineCapacity(together=4, at_once=100)
    shared = Shared(places)
    running = {0: 0, 1: 0}

    async def work(number: int) -> None:
        async with turns[number].turn():
            running[number] += 1
            await asyncio.sleep(3600)

    turns = [shared.turns(), shared.turns()]
    tasks = [asyncio.create_task(work(number)) for number in (0, 0, 0, 1, 1)]
    await settle()
    assert running == {0: 2, 1: 1}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert shared.free()


async def test_a_full_engine_lets_one_wait_until_another_leaves() -> None:
    places = EngineCapacity(together=100, at_once=2)
    shared = Shared(places)
    places.enter()
    places.enter()
    first, second = shared.turns(), shared.turns()
    assert not places.room()
    got = []

    async def work(name: str) -> None:
        async with first.turn():
            got.append(name)
            await asyncio.sleep(3600 if name == "held" else 0)

    held = asyncio.create_task(work("held"))
    waiting = asyncio.create_task(work("waiting"))
    await settle()
    assert got == ["held"], "it always has one running, however full the engine is"
    held.cancel()
    await settle()
    assert got == ["held", "waiting"]
    async with second.turn():
        pass
    await waiting
    places.leave()
    places.leave()
    assert places.room()
