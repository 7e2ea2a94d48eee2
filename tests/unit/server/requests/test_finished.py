"""What is stored of a finished request: its report and nothing of its policy, counted as it takes memory."""

from __future__ import annotations

import gc
import random
import tracemalloc
from collections.abc import Callable
from types import FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import pytest

from forkpoint_policies.compile.compiler import CompiledPolicy
from forkpoint_policies.compile.program import Program
from forkpoint_policies.spec import Policy
from forkpoint_server.requests.context import RequestContext
from forkpoint_server.requests.finished import FinishedRequest
from forkpoint_server.requests.serialize import trace_to_dict
from forkpoint_server.requests.tree import Tree
from forkpoint_server.traces.trace import Trace
from tests.unit.policies.vocabularies import TARGET
from tests.unit.server.branching.stub_engine import TRUNK, StubTree
from tests.unit.server.requests.recorded import CONNECTORS, add_record, context_of

FUNCTIONS = FunctionType, MethodType, ModuleType


def reachable(root: object) -> list[object]:
    """All objects that a request keeps in memory, without those that the served model's requests share."""
    found, shared = [], {id(TARGET.vocabulary), id(CONNECTORS)}
    waiting, seen = [root], set(shared)
    while waiting:
        one = waiting.pop()
        if id(one) in seen or isinstance(one, type):
            continue
        seen.add(id(one))
        found.append(one)
        if not isinstance(one, FUNCTIONS):  # those lead to all that is imported
            waiting += gc.get_referents(one)
    return found


def branched() -> RequestContext:
    """A request that has branched, with the policy under a name."""
    tree = StubTree({"branch": {}}, lambda start: TRUNK[len(start.tokens) :], answers=4)
    tree.run()
    tree.context.response_id = "chatcmpl-1"
    tree.context.connectors = CONNECTORS
    tree.context.receiver.close(tree.context.traces)
    return tree.context


def test_a_finished_request_keeps_no_policy_and_no_program() -> None:
    context = branched()
    kept = reachable(context.finished())
    assert not [one for one in kept if isinstance(one, RequestContext | CompiledPolicy | Program | Policy)]
    assert not [one for one in kept if isinstance(one, FUNCTIONS)], "a callback may keep anything"
    assert any(isinstance(one, Program) for one in reachable(context.compiled)), "the search would find one"


def test_its_report_is_that_of_its_context() -> None:
    context = branched()
    expected = trace_to_dict(context)
    assert expected["policy"] == context.compiled.policy.name
    assert expected["choices"][0]["actions"][0] == ["branch"]
    assert trace_to_dict(context.finished()) == expected


def long(num_alternatives: int, widths: tuple[int, ...] = (2,)) -> Callable[[], FinishedRequest]:
    """A request of two answers with prompt and alternatives, in batches of these numbers of rules."""

    def make() -> FinishedRequest:
        context = context_of(response_id="chatcmpl-" + "y" * 50)
        prompt = [random.randrange(300, 100_000) for _ in range(1000)]
        for choice in range(2):
            trace = Trace(1000 + choice, choice, max_alternatives=num_alternatives, prompt=prompt)
            for position in range(2000):
                add_record(trace, position, 1.0, effects=(0.0,) * widths[position % len(widths)])
                trace.tokens.append(random.randrange(300, 100_000))
                if num_alternatives:
                    tokens = np.random.randint(300, 100_000, num_alternatives).astype(np.int32)
                    trace.add_alternatives(position, 1.0, tokens, np.random.rand(num_alternatives).astype(np.float32))
            trace.finish()
            context.traces.append(trace)
        return context.finished()

    return make


def short(num_choices: int) -> Callable[[], FinishedRequest]:
    def make() -> FinishedRequest:
        context = context_of(response_id="chatcmpl-1")
        context.tree = Tree()
        for choice in range(num_choices):
            trace = Trace(1000 + choice, choice)
            add_record(trace, 0, 1.0)
            trace.tokens.append(random.randrange(300, 100_000))
            trace.finish()
            context.traces.append(trace)
            context.tree.add(trace, None, 0, (), "answer")
        return context.finished()

    return make


@pytest.mark.parametrize("make", [long(0), long(5), long(20), long(0, (1, 16)), short(500)])
def test_it_is_counted_as_what_it_takes(make: Any) -> None:
    make()  # what is cached at the first time
    gc.collect()
    tracemalloc.start()
    finished = make()
    gc.collect()
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert 0.7 * taken < finished.num_bytes < 1.6 * taken


def test_reading_it_again_keeps_nothing_more() -> None:
    """A profile is as large as the records that it is read from."""
    finished = long(0)()
    trace_to_dict(finished)
    assert not [one for one in reachable(finished) if isinstance(one, np.ndarray)]
