"""An engine that takes requests and answers none is noticed; one that is only busy is not."""

from __future__ import annotations

import asyncio

from forkpoint_server.engine.monitor import EngineMonitor


class StubEngine:
    """Answers pings while `answers` is set."""

    def __init__(self) -> None:
        self.answers = asyncio.Event()
        self.num_pings = 0

    async def ping(self) -> None:
        self.num_pings += 1
        await self.answers.wait()


async def test_an_engine_without_an_answer_fails_until_it_answers() -> None:
    engine = StubEngine()
    monitor = EngineMonitor(engine.ping, silent=0.01, stalled=0.05)
    monitor.add_request()
    assert monitor.failure() is None
    await asyncio.sleep(0.2)
    assert "restart the server" in (monitor.failure() or "")
    monitor.remove_request()  # its client has left
    assert monitor.failure() is not None
    engine.answers.set()
    await asyncio.sleep(0.05)
    assert monitor.failure() is None
    assert engine.num_pings == 1


async def test_a_long_prompt_is_no_failure() -> None:
    engine = StubEngine()
    engine.answers.set()
    monitor = EngineMonitor(engine.ping, silent=0.01, stalled=0.05)
    monitor.add_request()
    await asyncio.sleep(0.2)
    assert engine.num_pings > 1
    assert monitor.failure() is None
    monitor.remove_request()


async def test_an_engine_that_returns_something_is_not_pinged() -> None:
    engine = StubEngine()
    monitor = EngineMonitor(engine.ping, silent=0.1, stalled=0.2)
    monitor.add_request()
    for _ in range(30):
        monitor.note_output()
        await asyncio.sleep(0.01)
    assert engine.num_pings == 0
    monitor.remove_request()
    await asyncio.sleep(0.15)
    assert engine.num_pings == 0


async def test_a_dead_engine_is_vllms_to_report() -> None:
    async def fail() -> None:
        raise RuntimeError("dead")

    monitor = EngineMonitor(fail, silent=0.01, stalled=0.02)
    monitor.add_request()
    await asyncio.sleep(0.1)
    assert monitor.failure() is None
    monitor.remove_request()
