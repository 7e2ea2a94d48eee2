"""One engine's records, sent by the worker's own sender at a steady pace: the process that `measurement` starts.

It reads its Feed from the first line of its input, answers `ready`, starts at the next line, and writes each step's
number once its records are handed to the sender. Its last line is a Fed. It ends with its input.
"""

from __future__ import annotations

import sys
import time

import msgspec
import numpy as np
import torch

from forkpoint_policies.kernel.native.columns import (
    NONE,
    R_ENTROPY,
    R_FLAGS,
    R_HANDLE,
    R_LAST_TOKEN,
    R_POSITION,
    RECORD_COLUMNS,
)
from forkpoint_policies.kernel.record_flags import IN_REASONING
from forkpoint_policies.kernel.step_types import StepRecord
from forkpoint_policies.worker.destinations import Address, Destinations
from forkpoint_policies.worker.request import Wanted
from forkpoint_policies.worker.sender import Sender

from .schedule import Schedule

FIRST_TOKEN = 1000
STEP_SECONDS = 0.001
"""What each record says that its step took."""


class Feed(msgspec.Struct, frozen=True):
    """What to send where. Without `steps_per_second`, as fast as possible. `alternatives`: of every row, so many."""

    address: str
    schedule: Schedule
    steps_per_second: float | None
    rules: int
    alternatives: int


class Fed(msgspec.Struct, frozen=True):
    """The result: records that the sender had no room for, CPU seconds of this process, and when each step was handed
    over, in seconds of time.monotonic."""

    lost: int
    cpu_seconds: float
    reported_at: list[float]


def main() -> None:
    """Send what the first line of the input says."""
    torch.set_num_threads(1)
    feed = msgspec.json.decode(sys.stdin.readline(), type=Feed)
    print("ready", flush=True)
    sys.stdin.readline()
    cpu = time.process_time()
    sender = Sender(lambda logits, _top_k, _top_p: logits)
    reported_at = _send_all(feed, sender)
    while sender.num_waiting:
        time.sleep(0.01)
    print(msgspec.json.encode(Fed(sender.lost, time.process_time() - cpu, reported_at)).decode(), flush=True)
    sys.stdin.readline()  # messages that the receiver did not read yet are in this process
    sender.close()


def _send_all(feed: Feed, sender: Sender) -> list[float]:
    schedule, random = feed.schedule, np.random.default_rng(0)
    blank = np.zeros((schedule.rows, RECORD_COLUMNS), np.int32)
    blank[:, R_FLAGS] = IN_REASONING
    blank[:, R_ENTROPY] = random.exponential(0.4, schedule.rows).astype(np.float32).view(np.int32)
    shape = schedule.rows, max(feed.alternatives, 1)
    likeliest = torch.full(shape, FIRST_TOKEN if feed.alternatives else NONE, dtype=torch.int32)
    probabilities, certainty = torch.full(shape, 0.1), torch.zeros(schedule.rows)
    destinations = Destinations([Address(feed.address)], Wanted(feed.rules, feed.alternatives))
    logits = torch.zeros(0)

    start, reported_at = time.monotonic(), list[float]()
    for step in range(schedule.steps):
        if feed.steps_per_second is not None:
            time.sleep(max(start + step / feed.steps_per_second - time.monotonic(), 0.0))
        rows = blank.copy()
        rows[:, R_HANDLE], rows[:, R_POSITION] = schedule.at(step)
        rows[:, R_LAST_TOKEN] = FIRST_TOKEN + rows[:, R_POSITION]
        reported_at.append(time.monotonic())
        record = StepRecord.of(torch.from_numpy(rows), likeliest, probabilities, certainty)
        sender.report(record, destinations, STEP_SECONDS, logits)
        print(step, flush=True)
    return reported_at


if __name__ == "__main__":
    main()
