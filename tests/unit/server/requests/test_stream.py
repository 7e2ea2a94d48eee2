"""The events of a running request add up to its whole trace."""

import asyncio
import json
from collections.abc import Iterable
from functools import partial
from typing import Any

import numpy as np
import pytest

from forkpoint_policies.compile.vocabulary import Vocabulary
from forkpoint_policies.worker.records import DRAFT, RecordRows
from forkpoint_server.errors import ApiError
from forkpoint_server.requests.context import RequestContext
from forkpoint_server.requests.recent import RecentTraces
from forkpoint_server.requests.reports import ReportThread
from forkpoint_server.requests.stream import DONE, START, Cursor, Followers, LiveTrace, delta_after
from forkpoint_server.traces.detokenize import Detokenizer
from forkpoint_server.traces.trace import Trace
from tests.unit.server.branching.stub_engine import TRUNK, StubTree, record
from tests.unit.server.requests.recorded import add_record, context_of


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


def read(event: bytes) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(event.removeprefix(b"data: "))
    return found


async def following(followers: Followers, context: RequestContext) -> list[bytes]:
    return [event async for event in followers.follow(context)]


def summed(deltas: Iterable[dict[str, Any]]) -> tuple[dict[int, list[int]], dict[int, Any], dict[int, Any]]:
    """The tokens and the entropies by choice, and the nodes, of all deltas. Each token is sent once."""
    tokens: dict[int, list[int]] = {}
    measured: dict[int, dict[int, float]] = {}
    nodes: dict[int, Any] = {}
    for event in deltas:
        assert event["object"] == "trace.delta"
        for choice in event["choices"]:
            assert len(tokens.setdefault(choice["index"], [])) == choice["told"]
            tokens[choice["index"]] += choice["token_ids"]
            measured.setdefault(choice["index"], {}).update(zip(choice["positions"], choice["entropies"], strict=True))
        for node in (event["tree"] or {"nodes": []})["nodes"]:
            nodes[node["index"]] = node
    return tokens, measured, nodes


@pytest.mark.parametrize("max_tokens", [1, 2000])
@pytest.mark.parametrize("answers", [1, 4])
def test_a_followed_tree_adds_up(answers: int, max_tokens: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("forkpoint_server.requests.stream.POLL_SECONDS", 0)
    monkeypatch.setattr("forkpoint_server.requests.stream.delta_after", partial(delta_after, max_tokens=max_tokens))
    tree = StubTree({"branch": {}}, lambda start: TRUNK[len(start.tokens) :], answers=answers)
    recent, events = RecentTraces(), []
    followers = Followers(recent, ReportThread())

    async def both() -> None:
        with recent.track(tree.context):
            listening = [asyncio.create_task(following(followers, tree.context)) for _ in range(3)]
            await tree.outputs()
            for _ in range(200):  # followers poll once a pass of the event loop; an event has a token at least
                await asyncio.sleep(0)
        events.extend(await asyncio.gather(*listening))

    asyncio.run(both())
    tree.close()
    for received in events:
        assert received[-1] == DONE
        first, *deltas, last = map(read, received[:-1])
        assert (first["object"], last["object"]) == ("trace.begun", "trace")
        tokens, measured, nodes = summed(deltas)
        assert tokens == {choice["index"]: choice["token_ids"] for choice in last["choices"]}
        assert measured == {
            one["index"]: dict(zip(one["positions"], one["entropies"], strict=True)) for one in last["choices"]
        }
        assert list(nodes.values()) == last["tree"]["nodes"]
        assert len(deltas) > 1


def write(context: RequestContext, *tokens: int) -> None:
    """One choice goes on, as the engine and the worker would continue it."""
    trace = context.traces[0]
    for token in tokens:
        add_record(trace, len(trace.tokens), 0.5)
        trace.tokens.append(token)


def followed() -> tuple[RequestContext, LiveTrace]:
    context = context_of()
    context.traces.append(Trace(1, 0))
    return context, LiveTrace(context, ReportThread())


def take(live: LiveTrace, cursor: Cursor) -> tuple[list[int], Cursor]:
    """The tokens of the next event."""
    event, cursor = live.next(cursor)
    return ([] if event is None else read(event)["choices"][0]["token_ids"]), cursor


def test_followers_share_what_is_serialised_and_a_slow_one_catches_up() -> None:
    context, live = followed()
    write(context, 5, 6)
    (first, one), (second, two) = take(live, START), take(live, START)
    assert (first, second, live.num_serialised) == ([5, 6], [5, 6], 1)
    slow = two
    for token in (7, 8, 9):
        write(context, token)
        (first, one), (second, two) = take(live, one), take(live, two)
        assert first == second == [token]
    assert live.num_serialised == 4
    tokens, slow = take(live, slow)
    assert (tokens, live.num_serialised) == ([7, 8, 9], 5)
    write(context, 1)
    for cursor in (slow, one, two):
        assert take(live, cursor)[0] == [1]
    assert live.num_serialised == 6, "from then on it shares again"
    assert take(live, take(live, one)[1]) == ([], take(live, one)[1])


def test_one_event_holds_a_bounded_number_of_tokens() -> None:
    context, _ = followed()
    write(context, *range(10))
    context.traces.append(Trace(2, 1, tokens=[50, 51]))
    cursor, sent = START, []
    while (delta := delta_after(context, cursor, max_tokens=4)).event is not None:
        sent.append([(choice["index"], choice["token_ids"]) for choice in delta.event["choices"]])
        assert delta.is_current == (len(sent) == 3)
        cursor = delta.cursor
    assert sent == [[(0, [0, 1, 2, 3])], [(0, [4, 5, 6, 7])], [(0, [8, 9]), (1, [50, 51])]]


async def test_the_number_of_followers_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("forkpoint_server.requests.stream.POLL_SECONDS", 0)
    context, _ = followed()
    recent = RecentTraces()
    followers = Followers(recent, ReportThread(), max_followers=2)
    with recent.track(context):
        streams = [followers.follow(context) for _ in range(2)]
        for stream in streams:
            followers.check_capacity()
            await anext(stream)
        with pytest.raises(ApiError, match="2 streams of traces") as refused:
            followers.check_capacity()
        assert (refused.value.status, bool(refused.value.retry_seconds)) == (503, True)
        await streams[0].aclose()  # type: ignore[attr-defined]
        followers.check_capacity()
    assert (await anext(streams[1])).startswith(b"data: ")
