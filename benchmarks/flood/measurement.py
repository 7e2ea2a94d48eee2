"""The server's side: the real receiver, and what it does with an answer's records when the answer ends."""

from __future__ import annotations

import asyncio
import itertools
import sys
import time
from array import array
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, replace
from functools import cache
from struct import Struct

import msgspec
import numpy as np
import psutil
from numpy.typing import NDArray

from benchmarks.kernel import served_model
from forkpoint_policies.compile.compiler import compile_policy
from forkpoint_policies.library import LIBRARY
from forkpoint_policies.worker.endpoint import Endpoint
from forkpoint_server import metrics
from forkpoint_server.policies.connector_tokens import find_connectors
from forkpoint_server.requests.context import RequestContext
from forkpoint_server.requests.recent import RecentTraces
from forkpoint_server.requests.summary import count_in_metrics, summary
from forkpoint_server.traces.receiver import Receiver
from forkpoint_server.traces.trace import Trace

from .feeder import FIRST_TOKEN, Fed, Feed
from .relay import Relay, relaying
from .schedule import Answer, Schedule

MODEL = "flood"
LOOPBACK = "127.0.0.1"
DRAIN_SECONDS = 60.0
"""How long to wait for records that are still on their way after the last step."""
QUIET_SECONDS = 8.0
"""After a cut nobody knows how many messages are still to come: none in so long. Workers reconnect within 5 s."""
HELD_SECONDS = 0.3
"""So long before the cut, what is sent gets no further than the network's buffers."""
MEMORY_SECONDS = 0.2
MIB = 2**20
LINE_BYTES = 1 << 26
_FIRST_ROW = Struct("=ii")  # handle, position


@dataclass(frozen=True)
class Flood:
    """A flood: `feeders` processes, each with `rows` answers side by side, for about so many seconds.

    Without `records_per_second`, of all feeders together, as fast as possible. `encrypted`: over TCP with CURVE
    instead of the local socket. `absent`: the server listens only once all has been sent, so that what the sender's
    queue does not hold is lost. `cut_seconds`: so long, after a third of the flood, the network of an encrypted one is
    cut.
    """

    records_per_second: float | None = 10_000
    seconds: float = 5.0
    steps: int | None = None  # instead of seconds
    feeders: int = 2
    rows: int = 128
    answer_tokens: int = 500
    policy: str = "observe"
    alternatives: int = 0
    encrypted: bool = False
    absent: bool = False
    cut_seconds: float = 0.0

    @property
    def steps_per_second(self) -> float | None:
        """Of one feeder."""
        return None if self.records_per_second is None else self.records_per_second / (self.feeders * self.rows)

    @property
    def num_steps(self) -> int:
        """Of one feeder."""
        if self.steps is not None:
            return self.steps
        if self.steps_per_second is None:
            raise ValueError("a flood without a pace needs its number of steps")
        return max(round(self.seconds * self.steps_per_second), 1)


@dataclass(frozen=True)
class Flooded:
    """What happened to the records of a flood.

    `missing` is what the server counted (forkpoint_telemetry_dropped_total), `late_or_lost` what the harness found by
    comparing the steps that were sent with those that arrived before their answer was counted. Of these, `lost` had no
    room in the sender. Lags are seconds from a step's end in the worker to its reading in the server, of all steps.
    """

    sent: int
    arrived: int
    missing: int
    late_or_lost: int
    lost: int
    sending_seconds: float
    cpu_seconds: float  # of the server's process
    wall_seconds: float  # of the same time
    feeder_cpu_seconds: float
    lag: NDArray[np.float64]
    lag_at_end: float  # the longest of the last tenth of the steps
    bytes_per_record: float
    rise_mib: float  # of the server's resident memory, at its highest
    stored_tokens: int

    @property
    def sent_per_second(self) -> float:
        return self.sent / self.sending_seconds

    @property
    def cpu_microseconds(self) -> float:
        """Of the server's process, per record that arrived."""
        return self.cpu_seconds * 1e6 / max(self.arrived, 1)

    @property
    def busy(self) -> float:
        """The share of one core that the server's process used."""
        return self.cpu_seconds / self.wall_seconds


class _CountedReceiver(Receiver):
    """The server's receiver, which also notes when the records of each step arrived."""

    def __init__(self, schedules: Sequence[Schedule], encrypted: bool) -> None:
        super().__init__(LOOPBACK if encrypted else "")
        self._schedules = schedules
        self.num_messages = self.num_bytes = 0
        self.order = [np.zeros(one.steps, np.int64) for one in schedules]  # the message's number, from 1
        self.times = [np.full(one.steps, np.nan) for one in schedules]  # of time.monotonic

    def read(self, frames: list[bytes]) -> None:
        handle, position = _FIRST_ROW.unpack_from(frames[1])
        feed = (handle - 1) // self._schedules[0].num_handles
        step = self._schedules[feed].step_of(handle, position)
        self.num_messages += 1
        self.num_bytes += sum(map(len, frames))
        self.order[feed][step], self.times[feed][step] = self.num_messages, time.monotonic()
        super().read(frames)


class _Answers:
    """The requests whose answers the feeders write."""

    def __init__(self, context: RequestContext, receiver: _CountedReceiver) -> None:
        self._context, self._receiver = context, receiver
        self._ending: list[dict[int, list[tuple[Answer, Trace]]]] = []  # by feeder and step
        self._tasks: set[asyncio.Task[None]] = set()
        self.recent = RecentTraces()
        self.closed_after: dict[int, int] = {}  # handle -> the number of messages read when it was counted

    def open(self, schedule: Schedule, alternatives: int) -> None:
        """Open the traces of a feeder's answers. They have the schedule's handles, if they are opened in its order."""
        ending = defaultdict(list)
        for answer in schedule.answers():
            trace = self._receiver.open(0, answer.first_position, self._context.fork_threshold, alternatives)
            assert trace.handle == answer.handle, "handles count up"
            if answer.num_tokens > 0:
                ending[answer.last_step].append((answer, trace))
        self._ending.append(ending)

    def advance(self, feed: int, step: int) -> None:
        """The engine has finished a step: the answers that end there are reported."""
        for answer, trace in self._ending[feed].pop(step, ()):
            task = asyncio.create_task(self._end(answer, trace))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def wait(self) -> None:
        await asyncio.gather(*self._tasks)

    async def _end(self, answer: Answer, trace: Trace) -> None:
        """As the middleware does at the end of a request."""
        context = replace(self._context, traces=[trace], engine_id=str(answer.handle), started_at=time.monotonic())
        with self.recent.track(context):
            trace.tokens += range(FIRST_TOKEN, FIRST_TOKEN + answer.num_tokens)
            trace.ended = True
            await self._receiver.settle([trace])
            context.settled, context.response_id = True, context.engine_id
            summary(context)
            count_in_metrics(context)
            self._receiver.close([trace])
            self.closed_after[answer.handle] = self._receiver.num_messages


async def measure(flood: Flood) -> Flooded:
    """Start the feeders, and receive what they send.

    Raises RuntimeError for a feeder that ended early, and ValueError for a cut of a local socket or of a flood without
    a pace.
    """
    if flood.cut_seconds and not (flood.encrypted and flood.records_per_second):
        raise ValueError("cut_seconds: only a flood over TCP, at a pace, can be cut")
    schedules = _schedules(flood)
    receiver = _CountedReceiver(schedules, flood.encrypted)
    try:
        if not flood.absent:
            await receiver.start()
        answers = _Answers(_context(flood.policy, receiver), receiver)
        for schedule in schedules:
            answers.open(schedule, flood.alternatives)
        return await _measure(flood, schedules, receiver, answers)
    finally:
        await receiver.stop()


async def _measure(
    flood: Flood, schedules: Sequence[Schedule], receiver: _CountedReceiver, answers: _Answers
) -> Flooded:
    process, memory = psutil.Process(), array("q")
    dropped_before = _dropped()
    async with AsyncExitStack() as stack:
        address, relay = receiver.address, None
        if flood.cut_seconds:
            endpoint = Endpoint.decode(address)
            relay = await stack.enter_async_context(relaying(LOOPBACK, int(endpoint.remote.rpartition(":")[2])))
            address = msgspec.structs.replace(endpoint, remote=f"tcp://{LOOPBACK}:{relay.port}").encode()
        feeders = await stack.enter_async_context(_feeders(flood, schedules, address))
        sampling = asyncio.create_task(_sample(process, memory))
        before = process.memory_info().rss
        cpu, wall = time.process_time(), time.monotonic()
        for feeder in feeders:
            _write(feeder, b"go\n")
        cutting = asyncio.create_task(_cut(relay, flood)) if relay is not None else None
        fed = await asyncio.gather(
            *(_follow(feeder, None if flood.absent else answers, number) for number, feeder in enumerate(feeders))
        )
        messages = sum(one.steps for one in schedules) - sum(one.lost for one in fed) // flood.rows
        if flood.absent:
            await receiver.start()
        if cutting is not None:
            await cutting
            await _drain_until_quiet(receiver)
        else:
            await _drain(receiver, messages)
        if flood.absent:
            for number, schedule in enumerate(schedules):
                for step in range(schedule.steps):
                    answers.advance(number, step)
        await answers.wait()
        cpu, wall = time.process_time() - cpu, time.monotonic() - wall
        sampling.cancel()
    reported = [np.array(one.reported_at) for one in fed]
    lags = [times - at for times, at in zip(receiver.times, reported, strict=True)]
    tenth = [lag[-max(len(lag) // 10, 1) :] for lag in lags]
    arrived = sum(int((order > 0).sum()) for order in receiver.order) * flood.rows
    return Flooded(
        sent=sum(one.steps for one in schedules) * flood.rows,
        arrived=arrived,
        missing=round(_dropped() - dropped_before),
        late_or_lost=sum(map(_late_or_lost, schedules, receiver.order, itertools.repeat(answers.closed_after))),
        lost=sum(one.lost for one in fed),
        sending_seconds=max(float(at[-1] - at[0]) for at in reported),
        cpu_seconds=cpu,
        wall_seconds=wall,
        feeder_cpu_seconds=sum(one.cpu_seconds for one in fed),
        lag=np.concatenate([lag[np.isfinite(lag)] for lag in lags]),
        lag_at_end=max((float(np.nanmax(lag)) for lag in tenth if np.isfinite(lag).any()), default=np.inf),
        bytes_per_record=receiver.num_bytes / max(arrived, 1),
        rise_mib=(max(memory, default=before) - before) / MIB,
        stored_tokens=sum(len(trace.tokens) for one in answers.recent.stored() for trace in one.request.traces),
    )


def _schedules(flood: Flood) -> list[Schedule]:
    one = Schedule(1, flood.rows, flood.answer_tokens, flood.num_steps)
    return [replace(one, first_handle=1 + number * one.num_handles) for number in range(flood.feeders)]


_served_model = cache(served_model)  # reading a vocabulary takes seconds


def _context(policy: str, receiver: Receiver) -> RequestContext:
    model = _served_model()
    compiled = replace(compile_policy(LIBRARY[policy].policy, model), label=policy)
    connectors = find_connectors(model.vocabulary)
    return RequestContext(compiled, model, receiver, connectors, model.fork_threshold, model_name=MODEL)


@asynccontextmanager
async def _feeders(
    flood: Flood, schedules: Sequence[Schedule], address: str
) -> AsyncIterator[list[asyncio.subprocess.Process]]:
    """The feeders' processes, ready to start; they end with the block."""
    if flood.encrypted:  # as a worker on another host sees it: without the server's files
        address = msgspec.structs.replace(Endpoint.decode(address), local="").encode()
    rules = len(LIBRARY[flood.policy].policy.rules)
    processes: list[asyncio.subprocess.Process] = []
    try:
        for schedule in schedules:
            feed = Feed(address, schedule, flood.steps_per_second, rules, flood.alternatives)
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "benchmarks.flood.feeder", stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE, limit=LINE_BYTES,
            )  # fmt: skip
            processes.append(process)
            _write(process, msgspec.json.encode(feed) + b"\n")
        for process in processes:
            await _line(process)
        yield processes
    finally:
        for process in processes:
            if process.stdin is not None:
                process.stdin.close()
        for process in processes:
            with suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), DRAIN_SECONDS)
            if process.returncode is None:
                process.kill()
                await process.wait()


async def _follow(process: asyncio.subprocess.Process, answers: _Answers | None, number: int) -> Fed:
    """Read a feeder's steps until it has sent them all; `answers` end at theirs."""
    while True:
        line = await _line(process)
        if line.startswith(b"{"):
            return msgspec.json.decode(line, type=Fed)
        if answers is not None:
            answers.advance(number, int(line))


async def _drain(receiver: _CountedReceiver, messages: int) -> None:
    deadline = time.monotonic() + DRAIN_SECONDS
    while receiver.num_messages < messages and time.monotonic() < deadline:  # noqa: ASYNC110  # nothing signals it
        await asyncio.sleep(0.02)


async def _drain_until_quiet(receiver: _CountedReceiver) -> None:
    before = -1
    while receiver.num_messages > before:
        before = receiver.num_messages
        await asyncio.sleep(QUIET_SECONDS)


async def _cut(relay: Relay, flood: Flood) -> None:
    """Cut the network for a while, after a third of the flood."""
    assert flood.steps_per_second is not None
    await asyncio.sleep(flood.num_steps / flood.steps_per_second / 3)
    relay.hold()
    await asyncio.sleep(HELD_SECONDS)
    await relay.cut()
    await asyncio.sleep(flood.cut_seconds)
    await relay.start()


async def _sample(process: psutil.Process, memory: array[int]) -> None:
    while True:
        memory.append(process.memory_info().rss)
        await asyncio.sleep(MEMORY_SECONDS)


async def _line(process: asyncio.subprocess.Process) -> bytes:
    assert process.stdout is not None
    line = await process.stdout.readline()
    if not line:
        raise RuntimeError(f"a feeder ended early, with {await process.wait()}")
    return line


def _write(process: asyncio.subprocess.Process, line: bytes) -> None:
    assert process.stdin is not None
    process.stdin.write(line)


def _dropped() -> float:
    return sum(
        sample.value
        for metric in metrics.DROPPED.collect()
        for sample in metric.samples
        if sample.name.endswith("_total") and sample.labels[metrics.MODEL] == MODEL
    )


def _late_or_lost(schedule: Schedule, order: NDArray[np.int64], closed_after: dict[int, int]) -> int:
    """The records of a feeder that had not arrived when their answer was counted."""
    total = 0
    for answer in schedule.answers():
        if answer.num_tokens > 0:
            own = order[answer.first_step : answer.last_step + 1]
            total += int(((own == 0) | (own > closed_after[answer.handle])).sum())
    return total
