"""The events of a running request add up to its whole trace."""

import asyncio
from typing import Any

import numpy as np
import pytest

from forkpoint_policies.compile.vocabulary import Vocabulary
from forkpoint_policies.worker.records import DRAFT, RecordRows
from forkpoint_server.requests.context import RequestContext
from forkpoint_server.requests.recent import RecentTraces
from forkpoint_server.requests.stream import follow
from forkpoint_server.traces.detokenize import Detokenizer
from forkpoint_server.traces.trace import Trace
from tests.unit.server.branching.stub_engine import TRUNK, StubTree, record


def entropies(trace: Trace, after: tuple[int, int]) -> tuple[dict[int, float], tuple[int, int]]:
    profile, after = trace.records_since(after)
    return dict(zip(profile.position.tolist(), profile.entropy.tolist(), strict=True)), after


def test_only_certain_records_are_sent_and_the_rest_is_not_forgotten() -> None:
    trace = Trace(1, 0)
    trace.add(*record(0, 0.5, 0.9, 0, 1))
    found, after = entropies(trace, (0, 0))
    assert found == {}  # no token yet
    trace.tokens.append(7)
    found, after = entropies(trace, after)
    assert found == {0: 0.5}
    trace.add(*record(1, 0.25, 0.9, 0, 1))
    for position in (2, 3):
        columns, rules, row = record(position, 9.0, 0.9, 0, 1)
        draft = np.frombuffer(row, np.int32).copy()
        read = RecordRows(draft[None], rules)
        read.flags[:] |= DRAFT
        read.last_token[:] = 5
        trace.add(columns, rules, draft.tobytes())
    trace.tokens += [8, 9]
    assert entropies(trace, after)[0] == {}, (
        "the step evaluated a position that is not reached yet, and steps are read whole"
    )
    trace.add(*record(2, 0.75, 0.9, 0, 2))  # of another width: the batch has other policies
    trace.tokens.append(9)
    found, after = entropies(trace, after)
    assert found == {1: 0.25, 2: 0.75}, "positions 2 and 3 were evaluated on a draft that was rejected"
    assert entropies(trace, after)[0] == {}


def test_alternatives_are_stored_where_a_policy_had_an_effect() -> None:
    trace = Trace(1, 0, threshold=0.672, max_alternatives=2)
    likely = np.array([4, 5, 6], np.int32), np.array([-0.7, 0.2, 0.1], np.float32)
    trace.add_alternatives(0, 0.1, *likely, effect=0.005)
    trace.add_alternatives(1, 0.1, *likely, effect=0.7)
    assert trace.alternatives(0) is None
    stored = trace.alternatives(1)
    assert stored is not None
    assert stored.tokens == (4, 5)


def test_parts_of_characters_are_sent_as_bytes() -> None:
    texts = Detokenizer(Vocabulary((b"a", b"\xc3", b"\xa9", "é".encode()), frozenset()))
    assert texts.partial_bytes([0, 1, 2, 3], 5) == {6: "c3", 7: "a9"}
    assert texts.text([1, 2]) == "é"


@pytest.mark.parametrize("answers", [1, 4])
def test_a_followed_tree_adds_up(answers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("forkpoint_server.requests.stream.POLL_SECONDS", 0)
    tree = StubTree({"branch": {}}, lambda start: TRUNK[len(start.tokens) :], answers=answers)
    traces, events = RecentTraces(), []

    async def listen(context: RequestContext) -> None:
        events.extend([event async for event in follow(traces, context) if event is not None])

    async def both() -> None:
        with traces.track(tree.context):
            listening = asyncio.create_task(listen(tree.context))
            await tree.outputs()
            await asyncio.sleep(0.01)
        await listening

    asyncio.run(both())
    tree.close()
    *_, last = events
    assert (events[0]["object"], last["object"]) == ("trace.begun", "trace")
    tokens: dict[int, list[int]] = {}
    measured: dict[int, dict[int, float]] = {}
    nodes: dict[int, Any] = {}
    for event in events[1:-1]:
        assert event["object"] == "trace.delta"
        for choice in event["choices"]:
            assert len(tokens.setdefault(choice["index"], [])) == choice["told"]
            tokens[choice["index"]] += choice["token_ids"]
            measured.setdefault(choice["index"], {}).update(zip(choice["positions"], choice["entropies"], strict=True))
        for node in (event["tree"] or {"nodes": []})["nodes"]:
            nodes[node["index"]] = node
    assert tokens == {choice["index"]: choice["token_ids"] for choice in last["choices"]}
    assert measured == {
        one["index"]: dict(zip(one["positions"], one["entropies"], strict=True)) for one in last["choices"]
    }
    assert list(nodes.values()) == last["tree"]["nodes"]
    assert len(events) > 3
