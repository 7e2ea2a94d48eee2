"""The receiver: messages become the records of choices."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import numpy as np
import pytest

from forkpoint_policies.worker.records import alternatives_type, encode, num_columns, row_type
from forkpoint_server import metrics
from forkpoint_server.traces.receiver import Receiver


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    one = Receiver()
    yield one
    asyncio.run(one.stop())


def step(handles: list[int], position: int, entropy: float = 0.5) -> list[bytes]:
    rows = np.zeros(len(handles), row_type(1))
    rows["handle"], rows["position"], rows["entropy"] = handles, position, entropy
    details = np.zeros((0, num_columns(alternatives_type(0))), np.int32)
    return encode(rows.view(np.int32).reshape(len(handles), -1), details, 1, seconds=0.002)


def test_records_reach_their_choice(receiver: Receiver) -> None:
    first, second = (receiver.open(number, 0, 0.6, 0) for number in range(2))
    for position in range(3):
        receiver.read(step([first.handle, second.handle], position, entropy=0.1 * position))
    first.tokens, second.tokens = [7, 8, 9], [7]
    assert first.num_missing == second.num_missing == 0
    assert first.profile().entropy == pytest.approx([0.0, 0.1, 0.2])
    receiver.close([second])
    receiver.read(step([first.handle, second.handle], 3))
    first.tokens.append(10)
    assert first.num_missing == 0
    assert len(second.profile().position) == 1, "a choice that was closed gets no more records"


async def test_the_wait_ends_with_the_last_record(receiver: Receiver) -> None:
    trace = receiver.open(0, 0, 0.6, 0)
    trace.tokens = [7, 8]
    receiver.address, started = "ipc://bound", time.monotonic()
    asyncio.get_running_loop().call_later(0.02, lambda: receiver.read(step([trace.handle], 0)))
    asyncio.get_running_loop().call_later(0.05, lambda: receiver.read(step([trace.handle], 1)))
    await receiver.settle([trace])
    assert 0.04 < time.monotonic() - started < 0.9
    assert trace.num_missing == 0


def test_a_listener_is_called_with_each_message_of_its_choice(receiver: Receiver) -> None:
    listened, other = (receiver.open(number, 0, 0.6, 0) for number in range(2))
    calls: list[int] = []
    listened.listen(lambda: calls.append(listened.last_final_position))
    receiver.read(step([listened.handle], 0))
    receiver.read(step([other.handle], 0))
    receiver.read(step([other.handle, listened.handle], 1))
    assert calls == [0, 1]


def test_each_step_is_counted_by_the_time_a_request_ends(receiver: Receiver) -> None:
    def count() -> float:
        samples = next(iter(metrics.STEP.collect())).samples
        return sum(sample.value for sample in samples if sample.name.endswith("_count"))

    before, trace = count(), receiver.open(0, 0, 0.6, 0)
    for position in range(3):
        receiver.read(step([trace.handle], position))
    receiver.close([trace])
    assert count() - before == 3


@pytest.mark.parametrize("frames", [[], [b"", b"", b""], [b"x" * 28, b"", b""], [b"", b""]])
def test_what_is_no_message_is_ignored(receiver: Receiver, frames: list[bytes]) -> None:
    trace = receiver.open(0, 0, 0.6, 0)
    receiver.read(frames)
    receiver.read(step([trace.handle], 0))
    trace.tokens = [1]
    assert trace.num_missing == 0


def test_api_servers_of_one_engine_give_out_handles_of_their_own() -> None:
    """A worker that is given the handle of a running request takes the new request for its continuation."""
    receivers = [Receiver(number=number, count=3) for number in range(3)]
    handles = [[one.open(0, 0, 0.6, 0).handle for _ in range(5)] for one in receivers]
    assert len({handle for own in handles for handle in own}) == 15
    assert all(0 < handle < 2**31 for own in handles for handle in own)
    assert [own[-1] - own[0] for own in handles] == [4, 4, 4]
    for one in receivers:
        asyncio.run(one.stop())
