"""The wire format of what the worker measures for each token. numpy only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

MAX_MESSAGES_WAITING = 10_000
SIGNALS = 4  # columns of a record's numbers before those of its rules
POSITION, LAST_TOKEN, FLAGS = 1, 2, 3  # columns of a row, after its handle
HEAD_COLUMNS = 4 + SIGNALS


class Header(msgspec.Struct, frozen=True):
    """How to read the two arrays, and the seconds that the step took on the worker's host."""

    rows: int
    columns: int
    rules: int
    detailed: int
    alternatives: int
    seconds: float


@dataclass(frozen=True)
class Rows:
    """Records as they were sent, [n, 8 + R] int32 or wider, and what their columns mean."""

    values: NDArray[np.int32]
    rules: int

    @property
    def handle(self) -> NDArray[np.int32]:
        return self.values[:, 0]

    @property
    def position(self) -> NDArray[np.int32]:
        return self.values[:, POSITION]

    @property
    def flags(self) -> NDArray[np.int32]:
        return self.values[:, FLAGS]

    @property
    def numbers(self) -> NDArray[np.float32]:
        """[n, 4 + R], as in kernel.Record."""
        return self.values[:, FLAGS + 1 : HEAD_COLUMNS + self.rules].view(np.float32)

    @property
    def inherited(self) -> NDArray[np.float32]:
        """[n, 1 + 2 R], as in kernel.Record; zeros where no policy of the batch branches."""
        found = self.values[:, HEAD_COLUMNS + self.rules :].view(np.float32)
        return found if found.shape[1] else np.zeros((len(found), 1 + 2 * self.rules), np.float32)


@dataclass(frozen=True)
class Batch:
    """The records of one step as the server reads them."""

    rows: Rows
    detailed: NDArray[np.int32]  # [m], which rows the alternatives belong to
    alternatives: NDArray[np.int32]  # [m, k]
    probabilities: NDArray[np.float32]  # [m, k]
    seconds: float


def encode(rows: NDArray[np.int32], details: NDArray[np.int32], rules: int, seconds: float) -> list[bytes]:
    """The frames of a message; `rows` and `details` with the columns named above."""
    header = Header(len(rows), rows.shape[1], rules, len(details), (details.shape[1] - 1) // 2, seconds)
    return [msgspec.msgpack.encode(header), rows.tobytes(), details.tobytes()]


def decode(frames: Sequence[bytes]) -> Batch:
    """Read a message. Raises ValueError when it is not one."""
    if len(frames) != 3:
        raise ValueError(f"a message has 3 frames, not {len(frames)}")
    header = msgspec.msgpack.decode(frames[0], type=Header)
    rows = np.frombuffer(frames[1], np.int32).reshape(header.rows, header.columns)
    details = np.frombuffer(frames[2], np.int32).reshape(header.detailed, 1 + 2 * header.alternatives)
    return Batch(
        rows=Rows(rows, header.rules),
        detailed=details[:, 0],
        alternatives=details[:, 1 : 1 + header.alternatives],
        probabilities=details[:, 1 + header.alternatives :].view(np.float32),
        seconds=header.seconds,
    )
