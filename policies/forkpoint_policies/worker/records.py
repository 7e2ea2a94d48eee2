"""The wire format of what the worker measures for each token: columns and flags, declared once. numpy only.

A message has three frames: a Header, the rows of `row_type` and the alternatives of `alternatives_type`. Both travel as
int32 [n, columns]; floats are their bits. For requests that want log probabilities there are two more kinds: of one
frame, the rows of LOGPROB_TYPE, and of two frames, a whole Distribution. The signals of hidden states, of requests
whose policies depend on some, are four frames of HiddenRows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from struct import Struct
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from forkpoint_policies.kernel.record_flags import DRAFT, FORCED, IN_REASONING, LEFT_ALONE, REFUSED, RULES_SHIFT

__all__ = [
    "DRAFT",
    "FORCED",
    "HEAD",
    "IN_REASONING",
    "LEFT_ALONE",
    "LOGPROB_TYPE",
    "MAX_MESSAGES_WAITING",
    "REFUSED",
    "RULES_SHIFT",
    "Batch",
    "Distribution",
    "Header",
    "HiddenRows",
    "LogprobRow",
    "RecordRows",
    "alternatives_type",
    "decode",
    "decode_distribution",
    "decode_header",
    "decode_hidden",
    "decode_logprobs",
    "encode",
    "encode_distribution",
    "encode_hidden",
    "encode_logprobs",
    "num_columns",
    "row_type",
]  # fmt: skip

MAX_MESSAGES_WAITING = 10_000


@cache
def row_type(rules: int, branches: bool = False) -> np.dtype[np.void]:
    """The columns of a row of a batch whose longest program has so many rules; `branches`: with what a branch needs.

    After the handle, they are in the order of kernel.Record. `held` and `placed` are kernel.state.Chances, per rule.
    """
    columns: list[tuple[Any, ...]] = [
        ("handle", np.int32),
        ("position", np.int32),
        ("last_token", np.int32),
        ("flags", np.int32),
        ("entropy", np.float32),  # nats
        ("varentropy", np.float32),  # nats²
        ("top_probability", np.float32),
        ("connector_mass", np.float32),
        ("effect", np.float32, (rules,)),
    ]
    if branches:
        columns += [
            ("confidence", np.float32),  # nats
            ("held", np.float32, (rules,)),
            ("placed", np.float32, (rules,)),
        ]
    return np.dtype(columns)


def alternatives_type(alternatives: int) -> np.dtype[np.void]:
    """The likeliest tokens at one row, with their probabilities, negative where the policy took the token away, and
    the self-certainty there, in nats; 0 where no policy of the batch branches."""
    return np.dtype(
        [
            ("row", np.int32),
            ("tokens", np.int32, (alternatives,)),
            ("probabilities", np.float32, (alternatives,)),
            ("certainty", np.float32),
        ]
    )


def num_columns(kind: np.dtype[np.void]) -> int:
    """The int32 columns of a row."""
    return kind.itemsize // np.dtype(np.int32).itemsize


HEAD = Struct(
    "=" + "".join(row_type(0)[name].char for name in ("handle", "position", "last_token", "flags", "entropy"))
)
"""The first columns of a row, for reading one row quickly: handle, position, last token, flags, entropy."""


class Header(NamedTuple):
    """How to read the two arrays, and the seconds that the step took on the worker's host."""

    rows: int
    columns: int
    rules: int
    detailed: int
    alternatives: int
    seconds: float


_HEADER = Struct("=iiiiid")


@cache
def _place(name: str, rules: int, branches: bool) -> tuple[slice, np.dtype[Any], bool]:
    """Where a column of `row_type` lies among int32 columns, what it is, and whether there is one per rule."""
    fields = row_type(rules, branches).fields
    assert fields is not None
    dtype, offset = fields[name][:2]
    first = offset // np.dtype(np.int32).itemsize
    return slice(first, first + num_columns(dtype)), dtype.base, bool(dtype.shape)


@dataclass(frozen=True)
class RecordRows:
    """Rows as they were sent, int32 [n, columns], read by the names of `row_type`.

    The columns are views: writing changes the row.
    """

    values: NDArray[np.int32]
    rules: int

    @property
    def branches(self) -> bool:
        """Whether the rows have the columns that a branch needs."""
        columns: int = self.values.shape[1]
        return columns > _widths(self.rules)[0]

    def column(self, name: str) -> NDArray[Any]:
        """One column, [n] or [n, rules]. Raises KeyError for one that these rows do not have."""
        columns, dtype, is_per_rule = _place(name, self.rules, self.branches)
        found = self.values[:, columns].view(dtype)
        return found if is_per_rule else found[:, 0]

    @property
    def handle(self) -> NDArray[np.int32]:
        return self.column("handle")

    @property
    def position(self) -> NDArray[np.int32]:
        return self.column("position")

    @property
    def last_token(self) -> NDArray[np.int32]:
        return self.column("last_token")

    @property
    def flags(self) -> NDArray[np.int32]:
        return self.column("flags")

    @property
    def entropy(self) -> NDArray[np.float32]:
        return self.column("entropy")

    @property
    def effect(self) -> NDArray[np.float32]:
        """[n, rules]"""
        return self.column("effect")


@dataclass(frozen=True)
class Batch:
    """The records of one step as the server reads them."""

    rows: RecordRows
    detailed: NDArray[np.int32]  # [m], which rows the alternatives belong to
    alternatives: NDArray[np.int32]  # [m, k]
    probabilities: NDArray[np.float32]  # [m, k]
    certainty: NDArray[np.float32]  # [m] nats
    seconds: float


def encode(rows: NDArray[np.int32], details: NDArray[np.int32], rules: int, seconds: float) -> list[bytes]:
    """The frames of a message; `rows` and `details` as `row_type` and `alternatives_type` declare them."""
    alternatives = (details.shape[1] - num_columns(alternatives_type(0))) // 2
    header = Header(len(rows), rows.shape[1], rules, len(details), alternatives, seconds)
    return [_HEADER.pack(*header), rows.tobytes(), details.tobytes()]


def decode_header(frames: Sequence[bytes]) -> Header:
    """The header of a message, whose other frames have the lengths that it states. Raises ValueError otherwise."""
    if len(frames) != 3:
        raise ValueError(f"a message has 3 frames, not {len(frames)}")
    if len(frames[0]) != _HEADER.size:
        raise ValueError(f"a header has {_HEADER.size} bytes, not {len(frames[0])}")
    header = Header(*_HEADER.unpack(frames[0]))
    rows, columns, rules, detailed, alternatives, _ = header
    if min(rows, rules, detailed, alternatives) < 0 or columns not in _widths(rules):
        raise ValueError(f"not a header: {header}")
    if len(frames[1]) != 4 * rows * columns or len(frames[2]) != 4 * detailed * (2 + 2 * alternatives):
        raise ValueError(f"the arrays are not as long as the header says: {header}")
    return header


@cache
def _widths(rules: int) -> tuple[int, int]:
    return num_columns(row_type(rules)), num_columns(row_type(rules, branches=True))


def decode(frames: Sequence[bytes]) -> Batch:
    """Read a message. Raises ValueError when it is not one."""
    header = decode_header(frames)
    rows = np.frombuffer(frames[1], np.int32).reshape(header.rows, header.columns)
    kind = alternatives_type(header.alternatives)
    details = np.frombuffer(frames[2], np.int32).reshape(header.detailed, num_columns(kind))
    first, second = num_columns(kind["row"]), num_columns(kind["row"]) + num_columns(kind["tokens"])
    last = second + num_columns(kind["probabilities"])
    return Batch(
        rows=RecordRows(rows, header.rules),
        detailed=details[:, 0],
        alternatives=details[:, first:second],
        probabilities=details[:, second:last].view(np.float32),
        certainty=details[:, last].copy().view(np.float32),
        seconds=header.seconds,
    )


LOGPROB_TYPE = np.dtype([("handle", np.int32), ("position", np.int32), ("token", np.int32), ("logprob", np.float32)])
"""The log probability of a token in the distribution that the token at its position is sampled from."""

LogprobRow = tuple[int, int, int, float]
"""A row of LOGPROB_TYPE."""

_DISTRIBUTION = Struct("=ii")


@dataclass(frozen=True)
class Distribution:
    """The distribution that a request's token at a position is sampled from, as log probabilities, [vocabulary]."""

    handle: int
    position: int
    logprobs: NDArray[np.float32]


def encode_logprobs(rows: NDArray[np.void]) -> list[bytes]:
    """The frame of a message with rows of LOGPROB_TYPE."""
    return [rows.tobytes()]


def decode_logprobs(frames: Sequence[bytes]) -> list[LogprobRow]:
    """Read the rows of such a message. Raises ValueError when it is not one."""
    rows: list[LogprobRow] = np.frombuffer(frames[0], LOGPROB_TYPE).tolist()
    return rows


def encode_distribution(distribution: Distribution) -> list[bytes]:
    """The frames of a message with a whole distribution."""
    head = _DISTRIBUTION.pack(distribution.handle, distribution.position)
    return [head, distribution.logprobs.astype(np.float32, copy=False).tobytes()]


def decode_distribution(frames: Sequence[bytes]) -> Distribution:
    """Read such a message. Raises ValueError when it is not one."""
    if len(frames[0]) != _DISTRIBUTION.size:
        raise ValueError("not a distribution")
    handle, position = _DISTRIBUTION.unpack(frames[0])
    return Distribution(handle, position, np.frombuffer(frames[1], np.float32))


@dataclass(frozen=True)
class HiddenRows:
    """Signals of hidden states, by request and position; NaN where one is not known."""

    places: NDArray[np.int32]  # [n, 2]: handle, position
    values: NDArray[np.float32]  # [n, k], in the order of kernel.native.columns.NUM_HIDDEN


_HIDDEN = Struct("=ii")


def encode_hidden(rows: HiddenRows) -> list[bytes]:
    """The frames of a message with signals of hidden states; the last is empty, which tells it from others."""
    return [_HIDDEN.pack(*rows.values.shape), rows.places.tobytes(), rows.values.tobytes(), b""]


def decode_hidden(frames: Sequence[bytes]) -> HiddenRows:
    """Read such a message. Raises ValueError when it is not one."""
    if len(frames) != 4 or len(frames[0]) != _HIDDEN.size:
        raise ValueError("not signals of hidden states")
    rows, columns = _HIDDEN.unpack(frames[0])
    if min(rows, columns) < 0 or len(frames[1]) != 8 * rows or len(frames[2]) != 4 * rows * columns:
        raise ValueError("the signals of hidden states are not as many as their header says")
    places = np.frombuffer(frames[1], np.int32).reshape(rows, 2)
    return HiddenRows(places, np.frombuffer(frames[2], np.float32).reshape(rows, columns))
