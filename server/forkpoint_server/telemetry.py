"""The server's end of the channel: receives the worker's records and keeps a Trace for each choice being generated."""

from __future__ import annotations

import asyncio
import itertools
import logging
import tempfile
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import zmq
import zmq.asyncio
from forkpoint_policies.kernel import FORCED, IN_REASONING, LEFT_ALONE, REFUSED, RULES_SHIFT
from forkpoint_policies.telemetry import MOST_MESSAGES_WAITING, Batch, decode
from numpy.typing import NDArray

from . import metrics

logger = logging.getLogger(__name__)

HANDLES = 2**31 - 1


@dataclass(frozen=True)
class Alternatives:
    """The likeliest tokens at a position and their probabilities at temperature 1."""

    tokens: tuple[int, ...]
    probabilities: tuple[float, ...]


@dataclass
class Trace:
    """One choice: its tokens as the engine gave them, and the kernel's record of each position."""

    handle: int
    choice: int
    tokens: list[int] = field(default_factory=list)
    _records: dict[int, tuple[int, NDArray[np.float32]]] = field(default_factory=dict)
    _alternatives: dict[int, Alternatives] = field(default_factory=dict)
    _arrived: asyncio.Event = field(default_factory=asyncio.Event)
    _profile: Profile | None = None
    _missing: int | None = None

    def add(self, position: int, flags: int, numbers: NDArray[np.float32]) -> None:
        """Take a record. One position may come more than once, as a prompt computed in pieces does; the last one counts."""
        self._records[position] = flags, numbers
        self._arrived.set()

    def add_alternatives(self, position: int, alternatives: Alternatives) -> None:
        self._alternatives[position] = alternatives

    @property
    def missing(self) -> int:
        """How many of the choice's tokens have no record yet."""
        if self._missing is not None:
            return self._missing
        return sum(position not in self._records for position in range(len(self.tokens)))

    async def settle(self, deadline: float) -> None:
        """Wait until every token has its record, or until `deadline` (of time.monotonic)."""
        while self.missing and (left := deadline - time.monotonic()) > 0:
            self._arrived.clear()
            try:
                await asyncio.wait_for(self._arrived.wait(), left)
            except TimeoutError:
                return

    def finish(self) -> None:
        """Keep only what is told of the choice: the messages that its records came in hold those of others too."""
        self._profile, self._missing = self.profile(), self.missing
        self._records.clear()

    def profile(self) -> Profile:
        """The records of the committed tokens, as arrays; what was evaluated beyond them (a stop string's tail) is left out."""
        if self._profile is not None:
            return self._profile
        positions = [position for position in range(len(self.tokens)) if position in self._records]
        kept = [self._records[position] for position in positions]
        rules = max((len(numbers) - 4 for _, numbers in kept), default=0)
        numbers = np.zeros((len(kept), 4 + rules), np.float32)
        for place, (_, row) in enumerate(kept):  # a batch's rows are as wide as its longest policy
            numbers[place, : len(row)] = row
        flags = np.array([flags for flags, _ in kept], np.int32)
        return Profile(
            position=np.array(positions, np.int64),
            entropy=numbers[:, 0],
            in_reasoning=(flags & IN_REASONING).astype(np.bool_),
            left_alone=(flags & LEFT_ALONE).astype(np.bool_),
            forced=(flags & FORCED).astype(np.bool_),
            refused=(flags & REFUSED).astype(np.bool_),
            fired=(flags[:, None] >> np.arange(RULES_SHIFT, RULES_SHIFT + rules) & 1).astype(np.bool_),
            effect=numbers[:, 4:],
            alternatives=self._alternatives,
        )


@dataclass(frozen=True)
class Profile:
    """What is known of a choice's tokens, [n] each; `fired` and `effect` are [n, rules], in the program's order."""

    position: NDArray[np.int64]
    entropy: NDArray[np.float32]
    in_reasoning: NDArray[np.bool_]
    left_alone: NDArray[np.bool_]
    forced: NDArray[np.bool_]
    refused: NDArray[np.bool_]
    fired: NDArray[np.bool_]
    effect: NDArray[np.float32]
    alternatives: dict[int, Alternatives]


class Receiver:
    """Listens for the worker's records. `address` is what instructions name; empty when nothing could be bound."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="forkpoint-")
        self._context: zmq.asyncio.Context | None = None
        self._task: asyncio.Task[None] | None = None
        self._traces: dict[int, Trace] = {}
        self._handles = itertools.count(1)
        self.address = f"ipc://{Path(self._folder.name) / 'telemetry'}"

    async def start(self) -> None:
        self._context = zmq.asyncio.Context()
        socket = self._context.socket(zmq.PULL)
        socket.setsockopt(zmq.RCVHWM, MOST_MESSAGES_WAITING)
        socket.bind(self.address)
        self._task = asyncio.create_task(self._listen(socket), name="forkpoint-telemetry")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._context is not None:
            self._context.destroy(linger=0)
        self._folder.cleanup()

    def open(self, choice: int) -> Trace:
        """Begin to collect the records of one choice."""
        trace = Trace(next(self._handles) % HANDLES, choice)
        self._traces[trace.handle] = trace
        return trace

    def close(self, traces: Iterable[Trace]) -> None:
        """Stop collecting: the choices are told of, or their client is gone."""
        for trace in traces:
            self._traces.pop(trace.handle, None)
            trace.finish()

    async def _listen(self, socket: zmq.asyncio.Socket) -> None:
        while True:
            await socket.poll()
            with suppress(zmq.Again):
                while True:  # all that is there: to be woken costs more than to read
                    self._read(await socket.recv_multipart(zmq.NOBLOCK))

    def _read(self, frames: list[bytes]) -> None:
        try:
            self._take(decode(frames))
        except Exception:  # one bad message must not end the telemetry of all requests
            logger.exception("a telemetry message could not be read")

    def _take(self, batch: Batch) -> None:
        metrics.STEP.observe(batch.seconds)
        columns = (batch.handle.tolist(), batch.position.tolist(), batch.flags.tolist(), batch.numbers)
        for handle, position, flags, numbers in zip(*columns, strict=True):
            if trace := self._traces.get(handle):
                trace.add(position, flags, numbers)
        for row, tokens, probabilities in zip(
            batch.detailed.tolist(), batch.alternatives.tolist(), batch.probabilities.tolist(), strict=True
        ):
            if trace := self._traces.get(int(batch.handle[row])):
                trace.add_alternatives(int(batch.position[row]), Alternatives(tuple(tokens), tuple(probabilities)))
