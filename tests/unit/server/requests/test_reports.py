"""Reports are made in one thread, a bounded number of them, and encoded as JSON."""

from __future__ import annotations

import asyncio
import json
import threading

import pytest

from forkpoint_server.errors import ApiError
from forkpoint_server.requests.reports import ReportThread, report_to_json


def test_the_json_is_that_of_the_whole() -> None:
    report = {
        "id": "chatcmpl-ä/1",
        "choices": [{"tokens": ["a", "\n"], "entropies": [0.5, 1e-05]}, {"token_bytes": {3: "c3"}}],
        "tree": None,
        "empty": [],
        "number": 3,
        "on": True,
    }
    assert json.loads(report_to_json(report)) == json.loads(json.dumps(report))
    assert report_to_json({}) == b"{}"


async def test_reports_are_made_one_at_a_time_off_the_event_loop() -> None:
    reports, threads, running = ReportThread(), set(), threading.Lock()

    def make() -> dict[str, int]:
        threads.add(threading.current_thread())
        assert running.acquire(blocking=False), "another one is being made"
        running.release()
        return {"n": len(threads)}

    assert await asyncio.gather(*(reports.json(make) for _ in range(20))) == [b'{"n":1}'] * 20
    assert threading.current_thread() not in threads


async def test_so_many_reports_may_wait_and_no_more() -> None:
    reports, released = ReportThread(max_waiting=2), threading.Event()
    waiting = [asyncio.create_task(reports.make(released.wait)) for _ in range(3)]
    await asyncio.sleep(0)
    with pytest.raises(ApiError, match="too many reports") as refused:
        await reports.make(dict)
    assert (refused.value.status, bool(refused.value.retry_seconds)) == (503, True)
    released.set()
    await asyncio.gather(*waiting)
    assert await reports.make(lambda: 5) == 5
