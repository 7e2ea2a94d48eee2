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
from forkpoint_policies.worker.records import (
    MAX_MESSAGES_WAITING,
    Batch,
    decode,
    decode_distribution,
    decode_logprobs,
)
from forkpoint_server import metrics

from .trace import Trace, confidence_of, margin_of

logger = logging.getLogger(__name__)

HANDLES = 2**31 - 1
SETTLE_SECONDS = 1.0
SILENT = (
    "no records of tokens arrive from the engine: answers are right, figures about them incomplete, "
    "and trees do not branch"
)


class Receiver:
    """Listens for the worker's records. `address` is what payloads name; empty if no socket could be bound.

    `silent`: a request waited for records in vain, and none has arrived since.
    """

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="forkpoint-")
        self._context: zmq.asyncio.Context | None = None
        self._task: asyncio.Task[None] | None = None
        self._traces: dict[int, Trace] = {}
        self._handles = itertools.count(1)
        self.address = f"ipc://{Path(self._folder.name) / 'telemetry'}"
        self.silent = False
        self._num_batches = 0

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
        """What an operator should know, one line each."""
        if not self.address:
            return [
                "no telemetry: its socket could not be bound, so that answers are right and figures about them missing"
            ]
        return [SILENT] if self.silent else []

    def open(self, choice: int, first_position: int, threshold: float, max_alternatives: int) -> Trace:
        """Start to collect the records of one choice, whose own tokens start at `first_position`."""
        trace = Trace(
            next(self._handles) % HANDLES,
            choice,
            first_position=first_position,
            threshold=threshold,
            max_alternatives=max_alternatives,
        )
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

    def close(self, traces: Iterable[Trace]) -> None:
        """Stop collecting: the choices have been reported, or their client has left."""
        for trace in traces:
            self._traces.pop(trace.handle, None)
            trace.finish()
        metrics.RUNNING.labels(metrics.served_model()).set(len(self._traces))

    async def _listen(self, socket: zmq.asyncio.Socket) -> None:
        while True:
            await socket.poll()
            with suppress(zmq.Again):
                while True:  # read all that is queued: waking up costs more than reading
                    self._read(await socket.recv_multipart(zmq.NOBLOCK))

    def _read(self, frames: list[bytes]) -> None:
        try:
            if len(frames) == 1:
                self._add_logprobs(frames)
            elif len(frames) == 2:
                self._add_distribution(frames)
            else:
                self._add_batch(decode(frames))
        except Exception:  # one bad message must not end the telemetry of all requests
            logger.exception("a telemetry message could not be read")

    def _add_batch(self, batch: Batch) -> None:
        metrics.STEP.labels(metrics.served_model()).observe(batch.seconds)
        self._num_batches, self.silent = self._num_batches + 1, False
        columns, rules, whole = batch.rows.values.shape[1], batch.rows.rules, batch.rows.values.tobytes()
        stride = columns * batch.rows.values.itemsize
        callbacks: dict[int, Callable[[], None]] = {}
        for row, handle in enumerate(batch.rows.handle.tolist()):
            if trace := self._traces.get(handle):
                trace.add(columns, rules, whole[row * stride : (row + 1) * stride])
                if trace.on_records is not None:
                    callbacks[handle] = trace.on_records
        if len(batch.detailed):
            self._add_alternatives(batch)
        for on_records in callbacks.values():
            on_records()

    def _add_logprobs(self, frames: list[bytes]) -> None:
        for handle, position, token, nats in decode_logprobs(frames):
            if trace := self._traces.get(handle):
                trace.add_logprob(position, token, nats)

    def _add_distribution(self, frames: list[bytes]) -> None:
        distribution = decode_distribution(frames)
        if trace := self._traces.get(distribution.handle):
            trace.add_distribution(distribution.position, distribution.logprobs)

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
