"""Outcomes: how posted bodies are read, and how long an outcome waits for its request."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from prometheus_client import REGISTRY
from sqlalchemy import Engine

from forkpoint_policies.spec import InputError
from forkpoint_server.errors import ApiError
from forkpoint_server.experiments import outcomes
from forkpoint_server.experiments.outcomes import read_outcomes, record_outcomes
from forkpoint_server.store import executor
from forkpoint_server.store.assignments import add_assignments
from forkpoint_server.store.outcomes import Outcome
from forkpoint_server.store.recorder import Recorder
from tests.unit.server.store.rows import row

from .factories import store


def test_outcomes_as_they_are_posted() -> None:
    assert read_outcomes({"request_id": "a", "metrics": {"correct": True, "stars": 4}}) == [
        Outcome("a", "correct", 1.0),
        Outcome("a", "stars", 4.0),
    ]
    two = [{"request_id": "a", "metrics": {"x": 1}}, {"request_id": "b", "metrics": {"x": 2}}]
    assert read_outcomes(two)[1].request_id == "b"


@pytest.mark.parametrize(
    ("body", "field", "says"),
    [
        (3, "body", "must be an object"),
        ([{"request_id": "a", "metrics": {"x": 1}}, 3], "[1]", "must be an object"),
        ({"metrics": {"x": 1}}, "request_id", "must be the `id` of a response"),
        ({"request_id": "a"}, "metrics", "must be an object of numbers"),
        ({"request_id": "a", "metrics": {"x": "1"}}, "metrics.x", "must be a finite number, not '1'"),
        ({"request_id": "a", "metrics": {"x": None}}, "metrics.x", "must be a finite number"),
        ([{"request_id": "a", "metrics": {"x": float("nan")}}], "[0].metrics.x", "must be a finite number"),
        ({"request_id": "a", "metrics": {"x": 10**400}}, "metrics.x", "must be a finite number"),
        ({"request_id": "a", "metrics": {"x": 1.7e308}}, "metrics.x", "must be between -1e+100 and 1e+100"),
        ({"request_id": "a", "metrics": {"x": -(10**101)}}, "metrics.x", "must be between -1e+100 and 1e+100"),
        ({"request_id": "a" * 321, "metrics": {"x": 1}}, "request_id", "or the X-Request-Id of its request"),
        ({"request_id": "a", "metrics": {"tokens": 1}}, "metrics.tokens", "is measured by the server"),
        ({"request_id": "a", "metrics": {"two words": 1}}, "metrics.two words", "is not a metric's name"),
        ({"request_id": "a", "metrics": {"x": 1}, "arm": "b"}, "arm", "is not a field here"),
    ],
)
def test_wrong_outcomes(body: Any, field: str, says: str) -> None:
    with pytest.raises(InputError) as raised:
        read_outcomes(body)
    assert raised.value.field == field
    assert says in raised.value.message


class Clock:
    """A clock that only `sleep` advances. `pausing`: how many tasks sleep; they wait while `let_go` is not set."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self.pausing = 0
        self.let_go = asyncio.Event()
        self.let_go.set()
        self.changed = asyncio.Condition()
        self.alarms: list[tuple[float, Callable[[], object]]] = []
        monkeypatch.setattr(outcomes, "monotonic", lambda: self.now)
        monkeypatch.setattr(outcomes, "sleep", self.sleep)

    async def all_pause(self, count: int) -> None:
        """Wait until so many sleep."""
        async with self.changed:
            await self.changed.wait_for(lambda: self.pausing == count)

    async def sleep(self, seconds: float) -> None:
        async with self.changed:
            self.pausing += 1
            self.changed.notify_all()
        await self.let_go.wait()
        self.pausing -= 1
        self.now += seconds
        while self.alarms and self.now >= self.alarms[0][0]:
            self.alarms.pop(0)[1]()


async def test_an_outcome_that_comes_before_its_request_is_written_waits(
    database: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be in this server's queue, or in another's; an unknown request is a 404 with the retention."""
    stored, clock = store(database), Clock(monkeypatch)
    add_assignments(database, [row(stored.id, "here")])
    assert (await record_outcomes(database, 90, stored, [Outcome("here", "correct", 1.0)])).new
    assert clock.now == 0
    clock.alarms.append((0.5, partial(add_assignments, database, [row(stored.id, "elsewhere")])))
    assert (await record_outcomes(database, 90, stored, [Outcome("elsewhere", "correct", 1.0)])).new
    assert 0.5 <= clock.now < outcomes.WAIT_SECONDS
    before = clock.now
    with pytest.raises(
        ApiError, match=r"no request 'never' of 'one' is recorded.*more than 90 days ago; nothing of this was stored"
    ):
        await record_outcomes(database, 90, stored, [Outcome("never", "correct", 1.0)])
    assert outcomes.WAIT_SECONDS <= clock.now - before < outcomes.WAIT_SECONDS + 4
    sample = REGISTRY.get_sample_value(
        "forkpoint_experiment_outcome_count",
        {"model_name": "", "experiment": "one", "arm": "control", "metric": "correct"},
    )
    assert sample is not None
    assert sample >= 2


async def test_outcomes_that_wait_for_a_request_do_not_delay_others(
    database: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There are more of them than the store has threads."""
    stored, clock = store(database), Clock(monkeypatch)
    add_assignments(database, [row(stored.id, "here")])
    clock.let_go.clear()
    unknown = [Outcome("never", "x", 1.0)]
    waiting = [asyncio.create_task(record_outcomes(database, 90, stored, unknown)) for _ in range(40)]
    await clock.all_pause(len(waiting))
    assert (await record_outcomes(database, 90, stored, [Outcome("here", "late", 1.0)])).new
    assert clock.pausing == len(waiting) > executor.MAX_THREADS
    clock.let_go.set()
    assert all(isinstance(one, ApiError) for one in await asyncio.gather(*waiting, return_exceptions=True))


async def test_outcomes_are_written_by_a_recorder_that_runs(database: Engine) -> None:
    """On the real clock: a request that was queued just now is found."""
    stored = store(database)
    recorder = Recorder(database, 90)
    recorder.start()
    try:
        recorder.put(row(stored.id, "here"))
        assert (await record_outcomes(database, 90, stored, [Outcome("here", "correct", 1.0)])).new
    finally:
        recorder.stop(5)
