"""What changes in a request's context while the engine runs it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import REGISTRY

from forkpoint_policies.compile.regions import Region
from forkpoint_policies.compile.word_automaton import FREE
from forkpoint_server.branching.interface import ChildStart
from forkpoint_server.requests.options import RequestOptions
from forkpoint_server.requests.progress import (
    ALTERNATIVES,
    BRANCH_ALTERNATIVES,
    drop_default_policy,
    finish_choice,
    leave_experiment,
    num_alternatives,
    open_traces,
    start_engine_request,
)
from forkpoint_server.traces.receiver import Receiver
from forkpoint_server.traces.trace import Trace
from tests.unit.server.requests.recorded import THRESHOLD, context_of

START = ChildStart([], 0, FREE, Region.REASONING, Region.REASONING)

COOL = {"temperature": 0.5}
BRANCH = {"branch": {"select": "all"}}
RESUME = {"resume": {"text": "Wait", "budget_tokens": 100}}


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    asyncio.run(receiver.stop())


@pytest.mark.parametrize("has_other_policy", [False, True])
def test_a_request_leaves_its_experiment_for_what_applies_without_it(has_other_policy: bool) -> None:
    other = context_of(label="other").compiled if has_other_policy else None
    enrolment: Any = SimpleNamespace(live=SimpleNamespace(stored=SimpleNamespace(name="test_progress")))
    context = context_of(COOL, enrolment=enrolment, without_experiment=other, model_name="m")
    labels = {"model_name": "m", "experiment": "test_progress", "reason": "policy"}
    before = REGISTRY.get_sample_value("forkpoint_experiment_ineligible_total", labels) or 0
    leave_experiment(context)
    assert context.enrolment is None
    assert context.inactive is not has_other_policy
    assert (context.compiled is other) is has_other_policy
    assert REGISTRY.get_sample_value("forkpoint_experiment_ineligible_total", labels) == before + 1


@pytest.mark.parametrize("has_fallback", [False, True])
def test_a_default_that_cannot_apply_is_dropped(has_fallback: bool) -> None:
    fallback = context_of(label="none").compiled if has_fallback else None
    context = context_of(COOL, is_default=True, fallback=fallback)
    drop_default_policy(context)
    assert context.inactive is not has_fallback
    assert (context.compiled is fallback) is has_fallback


@pytest.mark.parametrize(
    ("do", "forks", "expected"),
    [
        (COOL, False, 0),
        (COOL, True, ALTERNATIVES),
        (BRANCH, False, BRANCH_ALTERNATIVES),
        (BRANCH, True, BRANCH_ALTERNATIVES),
        (RESUME, False, ALTERNATIVES),
    ],
)
def test_how_many_alternatives_the_worker_reports(do: dict[str, Any], forks: bool, expected: int) -> None:
    assert num_alternatives(context_of(do, options=RequestOptions(forks=forks))) == expected


@pytest.mark.parametrize(("do", "stored"), [(COOL, ALTERNATIVES), (BRANCH, BRANCH_ALTERNATIVES)])
def test_traces_are_numbered_in_the_order_of_the_choices(do: dict[str, Any], stored: int, receiver: Receiver) -> None:
    context = context_of(do, options=RequestOptions(forks=True), receiver=receiver, prompt=[1, 2])
    opened = open_traces(context, 2, START)
    context.prompt = [3]
    opened += open_traces(context, 1, START, num_shared_tokens=5)
    assert context.traces == opened
    assert [trace.choice for trace in opened] == [0, 1, 2]
    assert [trace.prompt for trace in opened] == [[1, 2], [1, 2], [3]]
    assert [trace.first_position for trace in opened] == [0, 0, 5]
    assert {(trace.threshold, trace.max_alternatives) for trace in opened} == {(THRESHOLD, stored)}
    assert len({trace.handle for trace in opened}) == 3


def test_engine_requests_are_expected_only_where_spans_are_exported() -> None:
    expected: list[str] = []
    spans: Any = SimpleNamespace(expect=expected.append)
    context, unexported, trace = context_of(COOL, spans=spans), context_of(COOL), Trace(1, 0)
    start_engine_request(context, "first", trace)
    start_engine_request(unexported, "first", trace)
    assert (expected, context.traces_by_engine_id) == (["first"], {"first": trace})
    assert unexported.traces_by_engine_id == {}


def test_a_finished_choice_is_counted_by_its_reason() -> None:
    context, labels = context_of(COOL, label="test_progress"), {"model_name": "", "policy": "test_progress", "arm": ""}
    for reason in ("stop", "length", "stop"):
        finish_choice(context, reason)
    assert context.finish_reasons == ["stop", "length", "stop"]
    counted = [
        REGISTRY.get_sample_value("forkpoint_requests_total", {**labels, "finish_reason": reason})
        for reason in ("stop", "length")
    ]
    assert counted == [2, 1]
