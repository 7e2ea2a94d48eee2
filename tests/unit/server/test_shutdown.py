"""The end of the server: requests that run may end, and those that come after the signal are refused."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from types import SimpleNamespace
from typing import Any, cast

import pytest
from vllm.engine.protocol import EngineClient
from vllm.exceptions import GracefulHTTPError
from vllm.outputs import CompletionOutput, RequestOutput

from forkpoint_server.shutdown import (
    LEAST_SECONDS,
    POLL_SECONDS,
    STOPPING,
    Drain,
    drain_first,
    drain_of_one,
    drain_of_several,
    raise_if_refused,
)


def output(token_ids: list[int], finish_reason: str | None) -> RequestOutput:
    choice = CompletionOutput(0, "", token_ids, None, None, finish_reason=finish_reason)
    return RequestOutput("one", None, [1], None, [choice], finish_reason is not None)


async def passed_on(outputs: list[RequestOutput], *, stopping: bool) -> list[RequestOutput]:
    async def generate() -> AsyncGenerator[RequestOutput, None]:
        for one in outputs:
            yield one

    return [one async for one in raise_if_refused(generate(), lambda: stopping)]


@pytest.mark.parametrize("drain", [drain_of_one(), drain_of_several(2).of_server(1)])
def test_what_runs_may_end_and_what_comes_later_is_refused(drain: Drain) -> None:
    ended = Event()

    def finish() -> float:
        left = drain.finish(30)
        assert ended.is_set()
        return left

    with ThreadPoolExecutor() as pool:
        with drain.counted() as in_time:
            assert in_time
            finishing = pool.submit(finish)
            while not drain.is_stopping():
                time.sleep(0.001)
            with drain.counted() as late:
                assert not late
            time.sleep(2 * POLL_SECONDS)
            assert not finishing.done()
            ended.set()
        assert 0 < finishing.result(20) < 30


def test_it_waits_for_all_api_servers_and_no_longer_than_it_may() -> None:
    drain = drain_of_several(2)
    with drain.of_server(0).counted(), drain.of_server(1).counted():
        assert list(drain.running) == [1, 1]
        assert drain.finish(0.1) == 0.0
    assert list(drain.running) == [0, 0]
    assert drain.finish(5) > 4


@pytest.mark.parametrize(("timeout", "expected"), [(0.0, 0.0), (None, None), (0.01, LEAST_SECONDS)])
def test_requests_end_before_the_engine_is_shut_down(timeout: float | None, expected: float | None) -> None:
    drain, calls = drain_of_one(), []
    engine: Any = SimpleNamespace(shutdown=lambda timeout: calls.append((timeout, drain.is_stopping())))
    drain_first(drain, cast(EngineClient, engine))
    with drain.counted(), ThreadPoolExecutor() as pool:
        pool.submit(engine.shutdown, timeout=timeout).result(20)
    assert calls == [(expected, True)]


def test_the_event_loops_thread_does_not_wait_for_what_it_would_have_to_run() -> None:
    drain, calls = drain_of_one(), []
    engine: Any = SimpleNamespace(shutdown=lambda timeout: calls.append((timeout, drain.is_stopping())))
    drain_first(drain, cast(EngineClient, engine))
    with drain.counted():
        engine.shutdown(timeout=3600.0)
    assert calls == [(3600.0, True)]


async def test_a_request_that_comes_too_late_is_an_error_that_says_so() -> None:
    with pytest.raises(GracefulHTTPError) as refused:
        await passed_on([output([], "abort")], stopping=True)
    assert (refused.value.http_status, refused.value.message) == (503, STOPPING)


@pytest.mark.parametrize(
    ("outputs", "stopping"),
    [
        ([output([], "abort")], False),  # its client left
        ([output([5], None), output([], "abort")], True),  # it ran
        ([output([5], "abort")], True),
        ([output([], None), output([5], "length")], True),
        ([output([], "stop")], True),
    ],
)
async def test_all_others_are_passed_on(outputs: list[RequestOutput], stopping: bool) -> None:
    assert await passed_on(outputs, stopping=stopping) == outputs
