"""The server's end of the channel: receives the worker's records and keeps a Trace for each choice being generated."""

from __future__ import annotations

import asyncio
import itertools
import logging
import tempfile
import time
from array import array
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import numpy as np
import zmq
import zmq.asyncio

from forkpoint_policies.spec import CONFIDENCE_TOKENS
from forkpoint_policies.worker.record_sums import NUM_FRAMES, decode_sums
from forkpoint_policies.worker.records import (
    MAX_MESSAGES_WAITING,
    Batch,
    decode,
    decode_distribution,
    decode_header,
    decode_hidden,
    decode_logprobs,
)
from forkpoint_server import metrics

from .likeliest import confidence_of, margin_of
from .record_log import RecordLog
from .remote_socket import RemoteSocket
from .trace import SummedRange, Trace

logger = logging.getLogger(__name__)

HANDLES = 2**31 - 1
STEPS_AT_ONCE = 64
"""So many steps' times are counted together."""
SETTLE_SECONDS = 1.0
SILENT = (
    "no records of tokens arrive from the engine: answers are right, figures about them incomplete, "
    "and trees do not branch"
)


class Receiver:
    """Listens for the worker's records. `address` is what payloads name; empty if no socket could be bound.

    With `host`, an address of this machine, it listens for workers on other hosts too.

    Of `count` API servers of one engine this is number `number`: workers know a request by its handle, so each gives
    out its own.

    `silent`: a request waited for records in vain, and none has arrived since.
    """

    def __init__(self, host: str = "", number: int = 0, count: int = 1) -> None:
        self._remote = RemoteSocket(host) if host else None
        self._folder = tempfile.TemporaryDirectory(prefix="forkpoint-")
        self._context: zmq.asyncio.Context | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._traces: dict[int, Trace] = {}
        own = HANDLES // count
        self._handles = (number * own + one % own for one in itertools.count(1))
        self._log = RecordLog(self._deliver)
        self._step_seconds = array("d")
        self.address = f"ipc://{Path(self._folder.name) / 'telemetry'}"
        self.silent = False
        self._num_batches = 0

    async def start(self) -> None:
        """Listen. Raises zmq.ZMQError where the address for other hosts cannot be listened on."""
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
        else:
            self._tasks.append(asyncio.create_task(self._listen(socket), name="forkpoint-telemetry"))
        if self._remote is not None:
            remote = self._remote.start()
            self.address = self._remote.endpoint(self.address).encode()
            self._tasks.append(asyncio.create_task(self._listen(remote), name="forkpoint-remote-telemetry"))

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._remote is not None:
            self._remote.stop()
        if self._context is not None:
            self._context.destroy(linger=0)
        self._folder.cleanup()

    def warnings(self) -> list[str]:
        """What an operator should know, one line each."""
        if not self.address:
            return [
                "no telemetry: its socket could not be bound, so that answers are right and figures about them missing"
            ]
        return [SILENT] if self.silent else []

    def open(self, choice: int, first_position: int, threshold: float, max_alternatives: int) -> Trace:
        """Start to collect the records of one choice, whose own tokens start at `first_position`."""
        trace = Trace(
            next(self._handles),
            choice,
            first_position=first_position,
            threshold=threshold,
            max_alternatives=max_alternatives,
        )
        trace.log = self._log
        self._traces[trace.handle] = trace
        metrics.RUNNING.labels(metrics.served_model()).set(len(self._traces))
        return trace

    async def settle(self, traces: Iterable[Trace]) -> None:
        """Wait up to SETTLE_SECONDS for the records of all tokens; not at all if none are to be expected."""
        if not self.address or self.silent:
            return
        deadline, num_batches = time.monotonic() + SETTLE_SECONDS, self._num_batches
        await asyncio.gather(*(trace.settle(deadline) for trace in traces))
        self.silent = self._num_batches == num_batches and any(trace.num_missing for trace in traces)

    async def settle_sums(self, traces: Iterable[Trace]) -> None:
        """Wait up to SETTLE_SECONDS for the sums of choices that ended early: of these nothing was sent before."""
        if self.address and not self.silent:
            deadline = time.monotonic() + SETTLE_SECONDS
            await asyncio.gather(*(trace.settle(deadline) for trace in traces if trace.is_summed))

    def close(self, traces: Iterable[Trace]) -> None:
        """Stop collecting: the choices have been reported, or their client has left."""
        self._count_steps()
        for trace in traces:
            trace.finish()
            self._traces.pop(trace.handle, None)
        metrics.RUNNING.labels(metrics.served_model()).set(len(self._traces))

    async def _listen(self, socket: zmq.asyncio.Socket) -> None:
        while True:
            await socket.poll()
            with suppress(zmq.Again):
                while True:  # read all that is queued: waking up costs more than reading
                    self.read(await socket.recv_multipart(zmq.NOBLOCK))

    def read(self, frames: list[bytes]) -> None:
        """Read a message."""
        try:
            if len(frames) == 1:
                self._add_logprobs(frames)
            elif len(frames) == 2:
                self._add_distribution(frames)
            elif len(frames) == 4:
                self._add_hidden(frames)
            elif len(frames) == NUM_FRAMES:
                self._add_sums(frames)
            else:
                self._add_batch(frames)
        except Exception:  # one bad message must not end the telemetry of all requests
            logger.exception("a telemetry message could not be read")

    def _add_batch(self, frames: list[bytes]) -> None:
        header = decode_header(frames)
        self._log.add(header.columns, header.rules, frames[1])
        self._note_steps([header.seconds])
        listening = self._log.listening
        if not listening and not header.detailed:
            return
        batch = decode(frames)
        handles = listening.intersection(batch.rows.handle.tolist()) if listening else ()
        traces = [self._traces[handle] for handle in sorted(handles) if handle in self._traces]
        for trace in traces:
            self._log.read(trace.handle)
        if header.detailed:
            self._add_alternatives(batch)
        for trace in traces:
            if trace.on_records is not None:
                trace.on_records()

    def _deliver(self, handle: int, columns: int, rules: int, rows: bytes) -> None:
        if trace := self._traces.get(handle):
            trace.add(columns, rules, rows)

    def _add_sums(self, frames: list[bytes]) -> None:
        message = decode_sums(frames)
        rows = message.record_rows
        self._note_steps(message.seconds.tolist())
        self._log.add(rows.values.shape[1], rows.rules, message.rows)
        for number, (handle, first, end, count) in enumerate(message.places.tolist()):
            if trace := self._traces.get(handle):
                trace.add_sums(SummedRange(first, end, count, message.sums.of(number)))
        for handle in self._log.listening.intersection(rows.handle.tolist()):
            self._log.read(handle)

    def _note_steps(self, seconds: list[float]) -> None:
        self._num_batches, self.silent = self._num_batches + 1, False
        self._step_seconds.extend(seconds)
        if len(self._step_seconds) >= STEPS_AT_ONCE:
            self._count_steps()

    def _count_steps(self) -> None:
        metrics.observe_all(metrics.STEP.labels(metrics.served_model()), np.array(self._step_seconds))
        del self._step_seconds[:]

    def _add_logprobs(self, frames: list[bytes]) -> None:
        for handle, position, token, nats in decode_logprobs(frames):
            if trace := self._traces.get(handle):
                trace.add_logprob(position, token, nats)

    def _add_distribution(self, frames: list[bytes]) -> None:
        distribution = decode_distribution(frames)
        if trace := self._traces.get(distribution.handle):
            trace.add_distribution(distribution.position, distribution.logprobs)

    def _add_hidden(self, frames: list[bytes]) -> None:
        found = decode_hidden(frames)
        for (handle, position), values in zip(found.places.tolist(), found.values, strict=True):
            if trace := self._traces.get(handle):
                trace.hidden.add(position - trace.first_position, values)

    def _add_alternatives(self, batch: Batch) -> None:
        rows, likeliest = batch.detailed, np.abs(batch.probabilities)
        handles, positions = batch.rows.handle[rows].tolist(), batch.rows.position[rows].tolist()
        entropies = batch.rows.entropy[rows].tolist()
        effects = batch.rows.effect[rows].max(axis=1, initial=0.0).tolist()
        certainty = batch.certainty.tolist()
        confidence, margin = confidence_of(likeliest[:, :CONFIDENCE_TOKENS]).tolist(), margin_of(likeliest).tolist()
        for index, (handle, position) in enumerate(zip(handles, positions, strict=True)):
            trace = self._traces.get(handle)
            if trace is None:
                continue
            likely = batch.alternatives[index], batch.probabilities[index]
            trace.add_alternatives(position, entropies[index], *likely, effects[index])
            if trace.tree_rule_index is not None:
                trace.add_confidence(position, confidence[index], margin[index], certainty[index])
