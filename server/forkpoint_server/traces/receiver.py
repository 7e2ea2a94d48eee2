"""The server's end of the channel: receives the worker's records and keeps a Trace for each choice being generated."""

from __future__ import annotations

import asyncio
import itertools
import logging
import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

import numpy as np
import zmq
import zmq.asyncio

from forkpoint_policies.spec import CONFIDENCE_TOKENS
from forkpoint_policies.worker.records import MAX_MESSAGES_WAITING, Batch, decode
from forkpoint_server import metrics

from .trace import Trace, confidence_of, margin_of

logger = logging.getLogger(__name__)

HANDLES = 2**31 - 1
SETTLE_SECONDS = 1.0
SILENT = "no records of tokens arrive from the engine: answers are right, figures about them incomplete, and trees do not branch"


class Receiver:
    """Listens for the worker's records. `address` is what instructions name; empty when nothing could be bound.

    `silent`: a request waited for records in vain, and none came since.
    """

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="forkpoint-")
        self._context: zmq.asyncio.Context | None = None
        self._task: asyncio.Task[None] | None = None
        self._traces: dict[int, Trace] = {}
        self._handles = itertools.count(1)
        self.address = f"ipc://{Path(self._folder.name) / 'telemetry'}"
        self.silent = False
        self._taken = 0

    async def start(self) -> None:
        self._context = zmq.asyncio.Context()
        socket = self._context.socket(zmq.PULL)
        socket.setsockopt(zmq.RCVHWM, MAX_MESSAGES_WAITING)
        try:
            socket.bind(self.address)
        except zmq.ZMQError as error:
            logger.warning(
                "no telemetry: %s cannot be listened on (%s); a shorter TMPDIR may help", self.address, error
            )
            self.address = ""
            return
        self._task = asyncio.create_task(self._listen(socket), name="forkpoint-telemetry")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._context is not None:
            self._context.destroy(linger=0)
        self._folder.cleanup()

    def warnings(self) -> list[str]:
        """What a user should know of it."""
        if not self.address:
            return [
                "no telemetry: its socket could not be bound, so that answers are right and figures about them missing"
            ]
        return [SILENT] if self.silent else []

    def open(self, choice: int, first_position: int, threshold: float, max_alternatives: int) -> Trace:
        """Begin to collect the records of one choice, which may go on with `first_position` tokens of another one."""
        trace = Trace(
            next(self._handles) % HANDLES,
            choice,
            first_position=first_position,
            threshold=threshold,
            max_alternatives=max_alternatives,
        )
        self._traces[trace.handle] = trace
        metrics.RUNNING.set(len(self._traces))
        return trace

    async def settle(self, traces: Iterable[Trace]) -> None:
        """Wait, not for long, until the records of all tokens are here; not at all where there are none to be expected."""
        if not self.address or self.silent:
            return
        deadline, taken = time.monotonic() + SETTLE_SECONDS, self._taken
        await asyncio.gather(*(trace.settle(deadline) for trace in traces))
        self.silent = self._taken == taken and any(trace.num_missing for trace in traces)

    def close(self, traces: Iterable[Trace]) -> None:
        """Stop collecting: the choices are told of, or their client is gone."""
        for trace in traces:
            self._traces.pop(trace.handle, None)
            trace.finish()
        metrics.RUNNING.set(len(self._traces))

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
        self._taken, self.silent = self._taken + 1, False
        columns, rules, whole = batch.rows.values.shape[1], batch.rows.rules, batch.rows.values.tobytes()
        stride = columns * batch.rows.values.itemsize
        listening: dict[int, Callable[[], None]] = {}
        for row, handle in enumerate(batch.rows.handle.tolist()):
            if trace := self._traces.get(handle):
                trace.add(columns, rules, whole[row * stride : (row + 1) * stride])
                if trace.on_records is not None:
                    listening[handle] = trace.on_records
        if len(batch.detailed):
            self._take_alternatives(batch)
        for heard in listening.values():
            heard()

    def _take_alternatives(self, batch: Batch) -> None:
        rows, likeliest = batch.detailed, np.abs(batch.probabilities)
        handles, positions = batch.rows.handle[rows].tolist(), batch.rows.position[rows].tolist()
        entropies = batch.rows.entropy[rows].tolist()
        effects = batch.rows.effect[rows].max(axis=1, initial=0.0).tolist()
        confidence, margin = confidence_of(likeliest[:, :CONFIDENCE_TOKENS]).tolist(), margin_of(likeliest).tolist()
        for place, (handle, position) in enumerate(zip(handles, positions, strict=True)):
            trace = self._traces.get(handle)
            if trace is None:
                continue
            likely = batch.alternatives[place], batch.probabilities[place]
            trace.add_alternatives(position, entropies[place], *likely, effects[place])
            if trace.tree_rule_index is not None:
                trace.add_confidence(position, confidence[place], margin[place])
