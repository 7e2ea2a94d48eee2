"""Sends the record of each step from the worker to the server, in the format of `records`.

Generation never waits for the channel: a full queue or an absent server loses records, and the server counts what is
missing.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import torch
import zmq
from numpy.typing import NDArray
from torch import Tensor

from forkpoint_policies.kernel.batch import SlotRow
from forkpoint_policies.kernel.step import Record

from .records import (
    DRAFT,
    LOGPROB_TYPE,
    MAX_MESSAGES_WAITING,
    Distribution,
    RecordRows,
    alternatives_type,
    encode,
    encode_distribution,
    encode_logprobs,
    num_columns,
)
from .sampled_from import LastDistributions, SampledTokens, ScoredRows, Truncate, WholeRows

logger = logging.getLogger(__name__)

MAX_STEPS_WAITING = 4096
LOOK_EVERY_SECONDS = 0.004


@dataclass(frozen=True)
class Destinations:
    """Where the rows of a layout report to: a handle per row, the rows that belong to each address, and those that want
    log probabilities."""

    handles: Tensor  # [n] int32, on the host
    drafts: NDArray[np.int32]  # [n], DRAFT for each row after draft tokens, else 0
    rows_of: dict[str, NDArray[np.int64]]
    detailed: NDArray[np.int32]  # [m]
    scored: ScoredRows | None = None

    @staticmethod
    def of(rows: Sequence[SlotRow], vocabulary: int, device: torch.device) -> Destinations:
        """Where these rows of a layout report to."""
        rows_of: dict[str, list[int]] = {}
        for number, row in enumerate(rows):
            if row.address:
                rows_of.setdefault(row.address, []).append(number)
        return Destinations(
            handles=torch.tensor([row.handle for row in rows], dtype=torch.int32),
            drafts=np.where(np.array([row.offset for row in rows]) > 0, DRAFT, 0).astype(np.int32),
            rows_of={address: np.array(own) for address, own in rows_of.items()},
            detailed=np.array([number for number, row in enumerate(rows) if row.alternatives > 0], np.int32),
            scored=ScoredRows.of(rows, vocabulary, device),
        )


@dataclass(frozen=True)
class _Logprobs:
    """SampledTokens on the host, [k, 4] int32: position, position of the step that showed it, token, float bits."""

    tokens: SampledTokens
    values: Tensor
    ready: torch.cuda.Event | None


@dataclass(frozen=True)
class _Step:
    rows: Tensor
    rules: int
    details: Tensor | None
    ready: torch.cuda.Event | None
    destinations: Destinations
    seconds: float


class Sender:
    """Sends records from a thread of its own. `report` returns at once and never raises; `lost` counts what had no
    room.

    The thread looks for what is there every few milliseconds, rather than being woken at each step: that would hand it
    Python's lock in the middle of one.
    """

    def __init__(self, truncate: Truncate) -> None:
        self.lost = 0
        self._waiting: deque[_Step | _Logprobs | WholeRows] = deque()
        self._last = LastDistributions(truncate)
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None

    def report(self, record: Record, destinations: Destinations, seconds: float, logits: Tensor) -> None:
        """Copy a record to the host without waiting for it, and queue it. `logits` are those of the batch, changed."""
        if self._thread is None:  # started late: a processor may be made before its process forks
            self._thread = threading.Thread(target=self._run, name="forkpoint-telemetry", daemon=True)
            self._thread.start()
        # the columns of row_type, in its order; the handle is added by the thread
        heads = torch.stack((record.position, record.last_token, record.flags), dim=1).int()
        numbers = (record.numbers,) if record.inherited is None else (record.numbers, record.inherited)
        rows = torch.cat((heads, *(some.view(torch.int32) for some in numbers)), dim=1)
        details = None
        if record.alternatives is not None and record.probabilities is not None:
            certainty = record.probabilities.new_zeros(len(record.probabilities))
            numbers_of = torch.cat(
                (record.probabilities, (certainty if record.certainty is None else record.certainty)[:, None]), dim=1
            )
            details = torch.cat((record.alternatives.int(), numbers_of.view(torch.int32)), dim=1)
        ready = None
        if rows.is_cuda:
            rows = rows.to("cpu", non_blocking=True)
            details = details.to("cpu", non_blocking=True) if details is not None else None
            ready = torch.cuda.Event()
            ready.record()
        if len(self._waiting) < MAX_STEPS_WAITING:
            self._waiting.append(_Step(rows, record.num_rules, details, ready, destinations, seconds))
        else:
            self.lost += len(rows)
        for found in self._last.advance(record, logits, destinations.scored):
            self._waiting.append(found if isinstance(found, WholeRows) else _to_host(found))

    def close(self) -> None:
        """Send what is waiting, then stop."""
        if self._thread is not None:
            self._ending.set()
            self._thread.join(timeout=5)
            self._thread = None
            self._ending.clear()

    def _run(self) -> None:
        context = zmq.Context()
        sockets: dict[str, zmq.Socket[bytes]] = {}
        try:
            ending = False
            while not ending:
                ending = self._ending.wait(LOOK_EVERY_SECONDS)
                self._send_waiting(context, sockets)
        finally:
            context.destroy(linger=200)

    def _send_waiting(self, context: zmq.Context[zmq.Socket[bytes]], sockets: dict[str, zmq.Socket[bytes]]) -> None:
        idle = self._last.idle()
        if idle is not None:
            self._waiting.append(idle)
        while self._waiting:
            step = self._waiting.popleft()
            try:
                if isinstance(step, _Step):
                    self._send(step, context, sockets)
                elif isinstance(step, _Logprobs):
                    self._send_logprobs(step, context, sockets)
                else:
                    self._send_whole(step, context, sockets)
            except Exception:  # telemetry must never take the worker down
                self.lost += len(step.rows) if isinstance(step, _Step) else 0
                logger.exception("forkpoint: a telemetry record could not be sent")

    def _send(
        self, step: _Step, context: zmq.Context[zmq.Socket[bytes]], sockets: dict[str, zmq.Socket[bytes]]
    ) -> None:
        if step.ready is not None:
            step.ready.synchronize()
        handles = step.destinations.handles.numpy()
        rows = np.concatenate((handles[:, None], step.rows.numpy()), axis=1)
        flags = RecordRows(rows, step.rules).flags
        flags |= step.destinations.drafts
        for address, own in step.destinations.rows_of.items():
            details = _details_of(step, own)
            try:
                socket = _socket(address, context, sockets)
                socket.send_multipart(encode(rows[own], details, step.rules, step.seconds), zmq.NOBLOCK)
            except zmq.Again:
                self.lost += len(own)

    def _send_logprobs(
        self, step: _Logprobs, context: zmq.Context[zmq.Socket[bytes]], sockets: dict[str, zmq.Socket[bytes]]
    ) -> None:
        if step.ready is not None:
            step.ready.synchronize()
        values = step.values.numpy()
        rows = np.zeros(len(values), LOGPROB_TYPE)
        rows["handle"], rows["position"], rows["token"] = step.tokens.handles, values[:, 0], values[:, 2]
        rows["logprob"] = np.ascontiguousarray(values[:, 3]).view(np.float32)
        sampled = (values[:, 0] >= 0) & (values[:, 1] == values[:, 0] + 1)
        addresses = np.array(step.tokens.addresses)
        for address in set(step.tokens.addresses):
            with suppress(zmq.Again):
                own = rows[sampled & (addresses == address)]
                _socket(address, context, sockets).send_multipart(encode_logprobs(own), zmq.NOBLOCK)

    def _send_whole(
        self, step: WholeRows, context: zmq.Context[zmq.Socket[bytes]], sockets: dict[str, zmq.Socket[bytes]]
    ) -> None:
        held = step.held
        if held.ready is not None:
            held.ready.synchronize()
        position = held.position.tolist()
        for row in step.rows:
            if position[row] < 0:
                continue
            frames = encode_distribution(
                Distribution(held.scored.handles[row], position[row], held.logprobs[row].cpu().numpy())
            )
            with suppress(zmq.Again):
                _socket(held.scored.addresses[row], context, sockets).send_multipart(frames, zmq.NOBLOCK)


def _socket(
    address: str, context: zmq.Context[zmq.Socket[bytes]], sockets: dict[str, zmq.Socket[bytes]]
) -> zmq.Socket[bytes]:
    """The socket to an address, connected at its first use."""
    if address not in sockets:
        sockets[address] = socket = context.socket(zmq.PUSH)
        socket.setsockopt(zmq.SNDHWM, MAX_MESSAGES_WAITING)
        socket.setsockopt(zmq.LINGER, 200)
        socket.connect(address)
    return sockets[address]


def _to_host(tokens: SampledTokens) -> _Logprobs:
    """Copy to the host without waiting for it."""
    numbers = torch.stack((tokens.position, tokens.known_at, tokens.token), dim=1).int()
    values, ready = torch.cat((numbers, tokens.logprob.view(torch.int32)[:, None]), dim=1), None
    if values.is_cuda:
        values = values.to("cpu", non_blocking=True)
        ready = torch.cuda.Event()
        ready.record()
    return _Logprobs(tokens, values, ready)


def _details_of(step: _Step, own: NDArray[np.int64]) -> NDArray[np.int32]:
    """The alternatives of these rows, with each row's index among them."""
    if step.details is None:
        return np.zeros((0, num_columns(alternatives_type(0))), np.int32)
    place = {int(row): number for number, row in enumerate(own)}
    pairs = [(number, place[int(row)]) for number, row in enumerate(step.destinations.detailed) if int(row) in place]
    details = step.details.numpy()[[number for number, _ in pairs]]
    return np.concatenate((np.array([[row] for _, row in pairs], np.int32).reshape(-1, 1), details), axis=1)
