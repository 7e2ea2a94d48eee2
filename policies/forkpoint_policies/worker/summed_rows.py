"""Sums the rows of choices whose records nobody reads one by one: all choices together, every so many steps.

The server alone knows where an answer ends, and which drafts were accepted at its end: so the rows of a choice's last
steps are not summed. They are sent as they are when the choice may have ended. If it continues, nothing is wrong: what
comes later is summed anew, and the server counts each position once.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from forkpoint_policies.kernel.record_flags import DRAFT, FORCED, LEFT_ALONE, REFUSED, RULES_SHIFT

from .record_sums import RecordSums, SumsMessage, sum_records
from .records import RecordRows, num_columns, row_type

TAIL_STEPS = 8
"""The rows of so many last steps of a choice are not summed: a worker evaluates a few positions beyond an end."""
SUM_STEPS = 128
"""After so many steps, running choices are summed."""
_FAR = 1 << 40  # beyond all positions


@dataclass(frozen=True)
class _Settled:
    """Of rows, sorted by handle: which are summed, and which belong to their choice's last steps."""

    summed: NDArray[np.bool_]
    last: NDArray[np.bool_]


class SummedRows:
    """The rows of one destination that were not sent yet. A choice that has no row in `absent` consecutive steps may
    have ended."""

    def __init__(self, fork_threshold: float, absent: int = 1) -> None:
        self._fork_threshold, self._absent = fork_threshold, absent
        self._rules = 0
        self._rows = np.zeros((0, num_columns(row_type(0))), np.int32)
        self._count = 0
        self._seconds = array("d")
        self._step = self._summed_at = 0
        self._last_step: dict[int, int] = {}  # of each choice with rows, by handle

    def __len__(self) -> int:
        return self._count

    def add(self, rows: NDArray[np.int32], rules: int, seconds: float | None) -> None:
        """Add the rows [n, columns] of one step, as `row_type(rules)`; n may be 0. Of a None, no seconds count."""
        self._step += 1
        if not len(rows):
            return
        self._make_room(len(rows), rules)
        self._rows[self._count : self._count + len(rows), : rows.shape[1]] = rows
        self._rows[self._count : self._count + len(rows), rows.shape[1] :] = 0
        self._count += len(rows)
        if seconds is not None:
            self._seconds.append(seconds)
        self._last_step.update(dict.fromkeys(rows[:, 0].tolist(), self._step))

    def take(self, everything: bool = False) -> SumsMessage | None:
        """What is to be sent now: of choices that may have ended all rows, of others their sums, if they are due."""
        oldest = self._step - self._absent
        ended = [handle for handle, step in self._last_step.items() if everything or step <= oldest]
        due = self._step - self._summed_at >= SUM_STEPS
        if not self._count or not (ended or due):
            return None
        rows, others = self._rows[: self._count], np.zeros(self._count, np.bool_)
        has_ended = np.isin(rows[:, 0], ended)
        if not due:
            others = ~has_ended
        chosen = np.flatnonzero(~others)
        chosen = chosen[np.argsort(rows[chosen, 0], kind="stable")]
        own = RecordRows(rows[chosen], self._rules)
        settled = _settled(own)
        places, sums = _sums(RecordRows(own.values[settled.summed], self._rules), self._fork_threshold)
        of_ended = has_ended[chosen]
        message = SumsMessage(
            places,
            sums,
            np.array(self._seconds),
            self._rules,
            own.values[settled.last & of_ended].tobytes(),
        )
        self._keep(np.concatenate((rows[others], own.values[settled.last & ~of_ended])))
        for handle in ended:
            del self._last_step[handle]
        if due:
            self._summed_at = self._step
        return message

    def _keep(self, rows: NDArray[np.int32]) -> None:
        self._rows[: len(rows)] = rows
        self._count = len(rows)
        self._seconds = array("d")

    def _make_room(self, more: int, rules: int) -> None:
        columns, size = num_columns(row_type(max(rules, self._rules))), len(self._rows)
        if rules <= self._rules and self._count + more <= size:
            return
        while size < self._count + more:
            size = 2 * size + 256
        roomy = np.zeros((size, columns), np.int32)
        roomy[: self._count, : self._rows.shape[1]] = self._rows[: self._count]
        self._rows, self._rules = roomy, max(rules, self._rules)


def _settled(rows: RecordRows) -> _Settled:
    """Which rows, those of a choice together in order of arrival, are of the committed tokens before its last steps.

    A step's first row comes after committed tokens, its others after drafts: those of the accepted ones stand before
    the position at which the next step starts. A position may be evaluated again, and the last record counts.
    """
    position, count = rows.position.astype(np.int64), len(rows.values)
    is_first = (rows.flags & DRAFT) == 0
    begins_choice = np.concatenate(([True], rows.handle[1:] != rows.handle[:-1]))[:count]
    starts = np.flatnonzero(is_first | begins_choice)
    step = np.cumsum(is_first | begins_choice) - 1
    choice = np.cumsum(begins_choice[starts]) - 1
    num_rows = np.diff(np.append(starts, count))
    left = np.cumsum(np.bincount(choice))[choice] - 1 - np.arange(len(starts))  # how many steps follow it

    # the least position at which a later step of the same choice starts
    placed = position[starts] + choice * _FAR
    least = np.append(np.minimum.accumulate(placed[::-1])[::-1][1:], (len(starts) + 1) * _FAR) - choice * _FAR
    # where steps are lost between, it is not known which drafts were accepted
    is_known = is_first | (least <= position[starts] + num_rows)[step]
    last = (left < TAIL_STEPS)[step]
    return _Settled(~last & is_known & (position < least[step]), last)


def _sums(rows: RecordRows, fork_threshold: float) -> tuple[NDArray[np.int32], RecordSums]:
    """Where the sums of each choice stand, as SumsMessage.places, and the sums."""
    handles, first, choice, count = np.unique(rows.handle, return_index=True, return_inverse=True, return_counts=True)
    flags, position = rows.flags, rows.position
    end = position[first + count - 1] + 1
    places = np.column_stack((handles, position[first], end, count)).astype(np.int32)
    sums = sum_records(
        choice, len(handles), fork_threshold, rows.entropy,
        [(flags & flag) != 0 for flag in (LEFT_ALONE, FORCED, REFUSED)],
        (flags[:, None] >> np.arange(RULES_SHIFT, RULES_SHIFT + rows.rules) & 1).astype(np.bool_),
        rows.effect,
    )  # fmt: skip
    return places, sums
