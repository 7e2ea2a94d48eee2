"""The log of records: each choice gets its own rows, in order of arrival, once."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from forkpoint_policies.worker.records import RecordRows, num_columns, row_type
from forkpoint_server.traces import record_log
from forkpoint_server.traces.record_log import RecordLog

COLUMNS = ("handle", "position", "entropy", "effect", "held", "placed", "confidence")


def message(
    random: np.random.Generator, handles: list[int], rules: int, branches: bool, start: int
) -> NDArray[np.void]:
    rows = np.zeros(len(handles), row_type(rules, branches))
    rows["handle"], rows["position"] = handles, np.arange(start, start + len(handles))
    for name in set(COLUMNS[2:]) & set(rows.dtype.names or ()):
        rows[name] = random.random(rows[name].shape)
    return rows


def padded(rows: RecordRows, name: str) -> NDArray[np.float32]:
    """A column, with zeros for rules and columns that the rows lack."""
    if name in ("held", "placed", "confidence") and not rows.branches:
        return np.zeros((len(rows.values), 1 if name == "confidence" else 4), np.float32)
    found = rows.column(name).reshape(len(rows.values), -1)
    return np.pad(found, ((0, 0), (0, max(0, 4 - found.shape[1])))) if name in ("effect", "held", "placed") else found


@given(
    steps=st.lists(
        st.tuples(
            st.lists(st.integers(1, 5), min_size=1, max_size=6), st.integers(0, 4), st.booleans(), st.integers(0, 6)
        ),
        max_size=30,
    ),
    max_rows=st.integers(1, 40),
)
def test_each_choice_gets_its_rows_in_order(steps: list[tuple[list[int], int, bool, int]], max_rows: int) -> None:
    """Read at any time, at any size of the log, and whatever rules the other rows of a message have."""
    random, sent, received = np.random.default_rng(0), [], []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(record_log, "MAX_ROWS", max_rows)
        log = RecordLog(
            lambda handle, columns, rules, rows: received.append(
                (handle, RecordRows(np.frombuffer(rows, np.int32).reshape(-1, columns), rules))
            )
        )
        for number, (handles, rules, branches, read) in enumerate(steps):
            rows = message(random, handles, rules, branches, start=10 * number)
            log.add(num_columns(rows.dtype), rules, rows.tobytes())
            sent.append(RecordRows(rows.view(np.int32).reshape(len(rows), -1), rules))
            log.read(read)
        for handle in range(1, 6):
            log.read(handle)
            log.read(handle)
    for handle in range(1, 6):
        for name in COLUMNS:
            expected = [padded(rows, name)[rows.handle == handle] for rows in sent]
            found = [padded(rows, name) for owner, rows in received if owner == handle]
            assert np.array_equal(
                np.concatenate([*expected, np.zeros((0, expected[0].shape[1]))]) if expected else [],
                np.concatenate([*found, np.zeros((0, expected[0].shape[1]))]) if expected else [],
            )


def test_a_choice_that_is_forgotten_is_not_listened_to() -> None:
    log = RecordLog(lambda *_: None)
    log.listening.add(3)
    log.forget(3)
    assert not log.listening
