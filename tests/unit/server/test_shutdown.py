"""The end of the server: the flag that the launcher's first call sets, and requests that reach the engine after it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from threading import Event
from types import SimpleNamespace
from typing import Any, cast

import pytest
from vllm.engine.protocol import EngineClient
from vllm.exceptions import GracefulHTTPError
from vllm.outputs import CompletionOutput, RequestOutput

from forkpoint_server.shutdown import STOPPING, raise_if_refused, set_at_shutdown


def output(token_ids: list[int], finish_reason: str | None) -> RequestOutput:
    choice = CompletionOutput(0, "", token_ids, None, None, finish_reason=finish_reason)
    return RequestOutput("one", None, [1], None, [choice], finish_reason is not None)


async def passed_on(outputs: list[RequestOutput], *, stopping: bool) -> list[RequestOutput]:
    async def generate() -> AsyncGenerator[RequestOutput, None]:
        for one in outputs:
            yield one

    return [one async for one in raise_if_refused(generate(), lambda: stopping)]


def test_the_flag_is_set_before_the_engine_is_told_to_stop() -> None:
    stopping, calls = Event(), []
    engine: Any = SimpleNamespace(shutdown=lambda timeout: calls.append((timeout, stopping.is_set())))
    set_at_shutdown(stopping, cast(EngineClient, engine))
    assert not stopping.is_set()
    engine.shutdown(timeout=7.0)
    assert calls == [(7.0, True)]


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
