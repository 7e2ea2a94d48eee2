"""The bounded memory of finished requests."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from forkpoint_server.requests import recent as recent_module
from forkpoint_server.requests.context import RequestContext
from forkpoint_server.requests.recent import TOKEN_BYTES, RecentTraces, canonical
from forkpoint_server.traces.trace import Trace
from tests.unit.server.requests.recorded import context_of

UUID = "6f0c1a2b-3c4d-4e5f-8a9b-0c1d2e3f4a5b"


def ended(response_id: str | None, num_tokens: int = 9, **ids: Any) -> RequestContext:
    """The context of a request that has ended with one choice."""
    context = context_of(response_id=response_id, **{"engine_id": response_id, **ids})
    context.traces.append(Trace(handle=7, choice=0, tokens=list(range(num_tokens))))
    return context


def store(recent: RecentTraces, response_id: str, **more: Any) -> None:
    context = ended(response_id, **more)
    recent.store(context.finished(), lambda: {"id": response_id})


def found(recent: RecentTraces, *names: str) -> list[str | None]:
    """The response's id of what is stored under each name."""
    stored = [recent.get(name) for name in names]
    return [None if one is None else one.to_dict()["id"] for one in stored]


def size_of(**more: Any) -> int:
    """What a request is counted with."""
    return -(-ended("0", **more).finished().num_bytes // TOKEN_BYTES)


def test_the_oldest_are_evicted_first_and_an_id_that_comes_again_is_counted_once() -> None:
    recent = RecentTraces(max_tokens=3 * size_of() + 5)
    for _ in range(50):
        store(recent, "c")
    store(recent, "0")
    store(recent, "1")
    with recent.track(ended(None)):
        pass  # its client left before there was a response
    assert found(recent, "c", "0", "1") == ["c", "0", "1"]
    store(recent, "2")
    assert found(recent, "c", "0", "1", "2") == [None, "0", "1", "2"]


def test_a_trace_that_got_longer_after_it_was_stored_frees_the_size_it_was_counted_with() -> None:
    recent, context = RecentTraces(max_tokens=3 * size_of() + 5), ended("longer")
    recent.store(context.finished(), dict)
    context.traces[0].tokens.extend(range(10_000))
    for number in range(4):
        store(recent, str(number))
    assert found(recent, "0", "1", "2", "3") == [None, "1", "2", "3"]


def test_ids_and_names_count_like_tokens() -> None:
    """Otherwise a client could fill the server's memory with ids."""
    long = "x" * 100_000
    plain = size_of()
    assert size_of(client_id=long) - plain >= len(long) / TOKEN_BYTES
    assert size_of(engine_id=long) - plain >= len(long) / TOKEN_BYTES
    recent = RecentTraces(max_tokens=10 * plain)
    store(recent, "small")
    store(recent, "large", client_id=long)
    assert found(recent, "small", "large") == [None, None]


def test_what_a_trace_holds_besides_its_request_counts_too() -> None:
    recent = RecentTraces(max_tokens=10 * size_of())
    recent.store(ended("verified").finished(), dict, num_more_bytes=20 * size_of() * TOKEN_BYTES)
    assert found(recent, "verified") == [None]


def test_a_trace_is_found_by_each_of_its_ids() -> None:
    recent = RecentTraces()
    store(recent, "chatcmpl-a", engine_id="chatcmpl-engine", client_id="mine")
    assert found(recent, "chatcmpl-a", "chatcmpl-engine", "mine", "other") == [*["chatcmpl-a"] * 3, None]


def test_an_id_names_the_last_request_that_had_it() -> None:
    recent = RecentTraces(max_tokens=3 * size_of(client_id="mine") + 5)
    store(recent, "chatcmpl-a", client_id="mine")
    store(recent, "cmpl-b", client_id="mine")
    assert found(recent, "mine", "chatcmpl-a", "cmpl-b") == ["cmpl-b", "chatcmpl-a", "cmpl-b"]
    for number in range(2):
        store(recent, str(number), client_id="yours")
    assert found(recent, "mine", "chatcmpl-a", "cmpl-b") == ["cmpl-b", None, "cmpl-b"], "only the first is evicted"
    store(recent, "2", client_id="yours")
    assert found(recent, "mine", "cmpl-b", "yours") == [None, None, "2"]


@pytest.mark.parametrize(
    "passed_on", [UUID, UUID.upper(), f"chatcmpl-{UUID.upper()}", "tenant%2Fa%3A1", "tenant/a:1", "tenant%252Fa%253A1"]
)
def test_ids_that_a_gateway_has_written_in_another_way(passed_on: str) -> None:
    recent = RecentTraces()
    client_id = "tenant%2Fa:1" if "tenant" in passed_on else UUID
    store(recent, f"chatcmpl-{client_id}", client_id=client_id)
    expected = None if "%25" in passed_on else f"chatcmpl-{client_id}"  # decoded once: the path was decoded before
    assert found(recent, passed_on) == [expected]


def test_only_uuids_are_read_in_any_case() -> None:
    assert canonical("Req-1") != canonical("req-1")
    assert canonical(UUID.replace("-", "").upper()) == UUID.replace("-", "")


@pytest.mark.parametrize(("max_tokens", "is_shown"), [(1000, True), (0, False)])
def test_running_traces_are_found_only_if_traces_are_stored(max_tokens: int, is_shown: bool) -> None:
    recent, running = RecentTraces(max_tokens), ended("running", client_id=UUID)
    with recent.track(running):
        for name in ("running", UUID.upper()):
            assert (recent.find_running(name) is running) == is_shown
        assert recent.is_running(running)
    assert not recent.is_running(running)
    assert (recent.get("running") is not None) == is_shown


def test_of_two_running_requests_with_one_id_the_last_is_found() -> None:
    recent, first, second = RecentTraces(), ended("a", client_id="mine"), ended("b", client_id="mine")
    inactive = replace(ended("c", client_id="mine"), inactive=True)
    with recent.track(first), recent.track(second), recent.track(inactive):
        assert recent.find_running("mine") is second


async def test_a_request_whose_response_is_being_sent_is_waited_for() -> None:
    """Its client may have all of the response, and ask for the trace, before the request is stored."""
    recent, context = RecentTraces(), ended(None, engine_id="chatcmpl-1", client_id="mine")
    with recent.track(context):
        assert await recent.settled("mine") is None  # it still runs: nobody can know its response
        context.response_id = "chatcmpl-1"
        waiting = [asyncio.create_task(recent.settled(name)) for name in ("chatcmpl-1", "mine", "mine")]
        await asyncio.sleep(0)
        assert not any(task.done() for task in waiting)
    assert [stored is not None for stored in await asyncio.gather(*waiting)] == [True] * 3


async def test_a_client_that_does_not_read_its_response_makes_nobody_wait_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(recent_module, "ENDING_SECONDS", 0.01)
    recent, context = RecentTraces(), ended("chatcmpl-1")
    with recent.track(context):
        assert await recent.settled("chatcmpl-1") is None
    assert await recent.settled("chatcmpl-1") is not None
