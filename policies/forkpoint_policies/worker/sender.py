"""Sends the record of each step from the worker to the server, in the format of `records` or summed (`record_sums`).

Generation never waits for the channel: a full queue or an absent server loses records, and the server counts what is
missing.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import torch
import zmq
from numpy.typing import NDArray
from torch import Tensor

from forkpoint_policies.kernel.native.columns import NONE, R_ADDRESS, R_EFFECT, R_HANDLE, R_POSITION, SENT_COLUMNS
from forkpoint_policies.kernel.step_types import StepRecord
from forkpoint_policies.spec import MAX_RULES

from .destinations import Address, Destinations
from .endpoint import Endpoint
from .records import (
    LOGPROB_TYPE,
    MAX_MESSAGES_WAITING,
    Distribution,
    HiddenRows,
    alternatives_type,
    encode,
    encode_distribution,
    encode_hidden,
    encode_logprobs,
    num_columns,
)
from .sampled_from import LastDistributions, SampledTokens, Truncate, WholeRows
from .summed_rows import SummedRows

logger = logging.getLogger(__name__)

MAX_STEPS_WAITING = 4096
LOOK_EVERY_SECONDS = 0.004
IDLE_STEPS = 3.0
"""Without a step for as long as so many took, choices may have ended: what is not sent of them is sent."""
IDLE_SECONDS = (0.02, 0.3)
"""The shortest and the longest time for that."""


@dataclass(frozen=True)
class _Logprobs:
    """SampledTokens on the host, [k, 4] int32: position, position of the step that showed it, token, float bits."""

    tokens: SampledTokens
    values: Tensor
    ready: torch.cuda.Event | None


@dataclass(frozen=True)
class _Step:
    """The tensors of a StepRecord on the host, once it is ready."""

    record: StepRecord
    destinations: Destinations
    seconds: float
    at: float  # of time.monotonic
    ready: torch.cuda.Event | None


class Sender:
    """Sends records from a thread of its own. `report` returns at once and never raises; `lost` counts what had no
    room.

    The thread looks for what is there every few milliseconds, rather than being woken at each step: that would hand it
    Python's lock in the middle of one. `num_stages`: of a pipeline, which has as many batches at once.
    """

    def __init__(self, truncate: Truncate, num_stages: int = 1) -> None:
        self.lost = 0
        self._num_stages = num_stages
        self._summed: dict[int, SummedRows] = {}  # by the number of the address
        self._addresses: Sequence[Address] = ()
        self._last_step, self._step_seconds = time.monotonic(), 0.0
        self._waiting: deque[_Step | _Logprobs | WholeRows] = deque()
        self._last = LastDistributions(truncate)
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None

    def report(self, record: StepRecord, destinations: Destinations, seconds: float, logits: Tensor) -> None:
        """Copy a record to the host without waiting for it, and queue it. `logits` are those of the batch, changed."""
        if self._thread is None:  # started late: a processor may be made before its process forks
            self._thread = threading.Thread(target=self._run, name="forkpoint-telemetry", daemon=True)
            self._thread.start()
        on_host, ready = record, None
        if record.rows.is_cuda:
            on_host = record.to_host()
            ready = torch.cuda.Event()
            ready.record()
        if len(self._waiting) < MAX_STEPS_WAITING:
            self._waiting.append(_Step(on_host, destinations, seconds, time.monotonic(), ready))
        else:
            self.lost += len(record.rows)
        for found in self._last.advance(record, logits, destinations.scored):
            self._waiting.append(found if isinstance(found, WholeRows) else _to_host(found))

    @property
    def num_waiting(self) -> int:
        """How many steps' records are not sent yet."""
        return len(self._waiting)

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
                self._send_sums(context, sockets, everything=ending or self._is_idle())
        finally:
            context.destroy(linger=200)

    def _send_waiting(self, context: zmq.Context[zmq.Socket[bytes]], sockets: dict[str, zmq.Socket[bytes]]) -> None:
        idle = self._last.idle()
        if idle is not None:
            self._waiting.append(idle)
        while self._waiting:
            step = self._waiting[0]
            try:
                if isinstance(step, _Step):
                    self._send(step, context, sockets)
                elif isinstance(step, _Logprobs):
                    self._send_logprobs(step, context, sockets)
                else:
                    self._send_whole(step, context, sockets)
            except Exception:  # telemetry must never take the worker down
                self.lost += len(step.record.rows) if isinstance(step, _Step) else 0
                logger.exception("forkpoint: a telemetry record could not be sent")
            finally:
                self._waiting.popleft()

    def _send(
        self, step: _Step, context: zmq.Context[zmq.Socket[bytes]], sockets: dict[str, zmq.Socket[bytes]]
    ) -> None:
        if step.ready is not None:
            step.ready.synchronize()
        rows = step.record.rows.numpy()
        addresses = np.where(rows[:, R_POSITION] >= 0, rows[:, R_ADDRESS], NONE)
        # with the columns of branches there are as many rules as there can be, else as the longest program has
        rules = step.destinations.wanted.rules
        rules, columns = (MAX_RULES, SENT_COLUMNS) if step.destinations.wanted.branches else (rules, R_EFFECT + rules)
        self._addresses = step.destinations.addresses
        numbers = np.unique(addresses[addresses >= 0]).tolist()
        self._sum(step, rows[:, :columns], addresses, numbers, rules)
        for address in numbers:
            if address in self._summed:
                continue
            own = np.flatnonzero(addresses == address)
            try:
                socket = _socket(self._addresses[address].endpoint, context, sockets)
                if step.record.hidden is not None:  # first, so that who has a record has these, too
                    self._send_hidden(rows[own], step.record.hidden.numpy()[own], socket)
                frames = encode(rows[own, :columns], _details_of(step.record, own), rules, step.seconds)
                socket.send_multipart(frames, zmq.NOBLOCK)
            except zmq.Again:
                self.lost += len(own)

    def _sum(
        self,
        step: _Step,
        rows: NDArray[np.int32],
        addresses: NDArray[np.integer],
        numbers: Sequence[int],
        rules: int,
    ) -> None:
        """Add a step's rows that are to be summed; without any, it still is a step."""
        if (elapsed := step.at - self._last_step) < IDLE_SECONDS[1]:
            self._step_seconds = elapsed
        self._last_step = step.at
        for number in numbers:
            threshold = self._addresses[number].sums_above
            if threshold is not None and number not in self._summed:
                self._summed[number] = SummedRows(threshold, self._num_stages)
        timed = {self._addresses[number].endpoint for number in numbers if number not in self._summed}
        for number, summed in self._summed.items():
            # a server counts a step once, though it gets records one by one, too
            seconds = None if self._addresses[number].endpoint in timed else step.seconds
            summed.add(rows[addresses == number, : R_EFFECT + rules], rules, seconds)

    def _is_idle(self) -> bool:
        """Whether steps have stopped."""
        shortest, longest = IDLE_SECONDS
        return time.monotonic() - self._last_step > min(max(IDLE_STEPS * self._step_seconds, shortest), longest)

    def _send_sums(
        self, context: zmq.Context[zmq.Socket[bytes]], sockets: dict[str, zmq.Socket[bytes]], everything: bool
    ) -> None:
        for number, summed in self._summed.items():
            try:
                message = summed.take(everything)
                if message is not None:
                    socket = _socket(self._addresses[number].endpoint, context, sockets)
                    try:
                        socket.send_multipart(message.encode(), zmq.NOBLOCK)
                    except zmq.Again:
                        self.lost += message.num_tokens
            except Exception:  # telemetry must never take the worker down
                logger.exception("forkpoint: sums of records could not be sent")

    def _send_hidden(self, rows: NDArray[np.int32], hidden: NDArray[np.float32], socket: zmq.Socket[bytes]) -> None:
        known = np.isfinite(hidden).any(axis=1)
        if known.any():
            places = rows[known][:, [R_HANDLE, R_POSITION]]
            socket.send_multipart(encode_hidden(HiddenRows(places, hidden[known])), zmq.NOBLOCK)

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
        Endpoint.decode(address).connect(socket)
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


def _details_of(record: StepRecord, own: NDArray[np.int64]) -> NDArray[np.int32]:
    """The alternatives of these rows, with each row's index among them, as records.alternatives_type."""
    likeliest = record.likeliest.numpy()
    places = np.flatnonzero(likeliest[own, 0] >= 0)
    if not len(places):
        return np.zeros((0, num_columns(alternatives_type(0))), np.int32)
    rows = own[places]
    numbers = record.probabilities.numpy()[rows].view(np.int32), record.certainty.numpy()[rows, None].view(np.int32)
    return np.concatenate((places[:, None].astype(np.int32), likeliest[rows], *numbers), axis=1)
