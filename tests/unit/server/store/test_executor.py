"""The threads of the store: what a failing or overloaded database raises."""

from __future__ import annotations

import asyncio
import threading
from http import HTTPStatus

import pytest
from sqlalchemy.exc import DataError, OperationalError

from forkpoint_server.errors import ApiError, error_object
from forkpoint_server.store import executor
from forkpoint_server.store.executor import UnavailableError, in_thread


async def test_a_database_that_fails_is_a_503_with_its_cause() -> None:
    def fail() -> None:
        raise OperationalError("SELECT 1", None, Exception("gone"))

    with pytest.raises(UnavailableError, match="does not answer, so this was not acknowledged; try again") as raised:
        await in_thread(fail)
    assert raised.value.status == HTTPStatus.SERVICE_UNAVAILABLE
    assert isinstance(raised.value.__cause__, OperationalError)


async def test_one_call_too_many_is_a_503(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executor, "_CALLS", threading.BoundedSemaphore(2))
    let_go = threading.Event()
    running = [asyncio.create_task(in_thread(let_go.wait)) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(UnavailableError, match="has too much to do, so this was not acknowledged; try again"):
        await in_thread(len, "x")
    let_go.set()
    assert await asyncio.gather(*running) == [True, True]
    assert await in_thread(len, "x") == 1


async def test_values_that_the_database_rejects_are_not_a_database_that_does_not_answer() -> None:
    def overflow() -> None:
        raise DataError("SELECT", None, Exception("value out of range: overflow"))

    with pytest.raises(ApiError) as raised:
        await in_thread(overflow)
    assert (raised.value.status, "does not answer" in raised.value.message) == (500, False)
    assert error_object(raised.value)["error"]["type"] == "InternalServerError"
