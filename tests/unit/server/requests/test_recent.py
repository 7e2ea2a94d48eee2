"""The bounded memory of finished requests."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from forkpoint_server.requests.recent import RecentTraces
from forkpoint_server.traces.trace import Trace


def traces_of(num_tokens: int) -> list[Trace]:
    return [Trace(handle=7, choice=0, tokens=list(range(num_tokens)))]


def context_of(response_id: str | None, num_tokens: int = 9) -> Any:
    return SimpleNamespace(engine_id="running", inactive=False, response_id=response_id, traces=traces_of(num_tokens))


def store(recent: RecentTraces, response_id: str, traces: list[Trace] | None = None) -> None:
    recent.store(response_id, traces or traces_of(9), lambda: {"id": response_id})


def stored(recent: RecentTraces, *names: str) -> list[bool]:
    return [recent.get(name) is not None for name in names]


def test_the_oldest_are_evicted_first_and_an_id_that_comes_again_is_counted_once() -> None:
    recent = RecentTraces(max_tokens=30)
    for _ in range(50):
        store(recent, "chosen by its client")
    store(recent, "0")
    store(recent, "1")
    with recent.track(context_of(None)):
        pass  # its client left before there was a response
    assert stored(recent, "chosen by its client") == [True]
    store(recent, "one more")
    assert stored(recent, "chosen by its client", "0", "1") == [False, True, True]
    found = recent.get("1")
    assert found is not None
    assert found.to_dict() == {"id": "1"}


def test_a_trace_that_got_longer_after_it_was_stored_frees_the_size_it_was_counted_with() -> None:
    recent, traces = RecentTraces(max_tokens=30), traces_of(9)
    store(recent, "longer", traces)
    traces[0].tokens.extend(range(100))
    for number in range(4):
        store(recent, str(number))
    assert stored(recent, "0", "1", "2", "3") == [False, True, True, True]


@pytest.mark.parametrize(("max_tokens", "is_shown"), [(30, True), (0, False)])
def test_running_traces_are_found_only_if_traces_are_stored(max_tokens: int, is_shown: bool) -> None:
    recent, running = RecentTraces(max_tokens), context_of("running")
    with recent.track(running):
        assert (recent.find_running("running") is running) == is_shown
        assert recent.is_running(running)
    assert not recent.is_running(running)
    assert stored(recent, "running") == [is_shown]
