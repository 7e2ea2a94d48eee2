"""The wire format of the records: the position of each column, and the contents of a message."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forkpoint_policies.worker.records import (
    HEAD,
    HiddenRows,
    RecordRows,
    alternatives_type,
    decode,
    decode_hidden,
    encode,
    encode_hidden,
    num_columns,
    row_type,
)


def offsets(kind: np.dtype[np.void]) -> dict[str, int]:
    """The column, counted from 0, at which each field starts."""
    return {name: field[1] // 4 for name, field in (kind.fields or {}).items()}


@pytest.mark.parametrize("rules", [0, 1, 3, 16])
def test_the_columns_of_a_row(rules: int) -> None:
    """The bytes between a worker and a server: a column that moves breaks every reader."""
    plain = {
        "handle": 0, "position": 1, "last_token": 2, "flags": 3, "entropy": 4, "varentropy": 5, "top_probability": 6,
        "connector_mass": 7, "effect": 8,
    }  # fmt: skip
    assert offsets(row_type(rules)) == plain
    assert num_columns(row_type(rules)) == 8 + rules
    branching = {"confidence": 8 + rules, "held": 9 + rules, "placed": 9 + 2 * rules}
    assert offsets(row_type(rules, branches=True)) == plain | branching
    assert num_columns(row_type(rules, branches=True)) == 9 + 3 * rules
    assert offsets(alternatives_type(5)) == {"row": 0, "tokens": 1, "probabilities": 6, "certainty": 11}
    assert num_columns(alternatives_type(5)) == 12


@pytest.mark.parametrize("branches", [False, True])
def test_columns_are_read_by_name(branches: bool) -> None:
    kind = row_type(2, branches)
    values = np.arange(3 * num_columns(kind), dtype=np.int32).reshape(3, -1)
    rows = RecordRows(values, 2)
    assert rows.branches == branches
    for name, first in offsets(kind).items():
        column = rows.column(name)
        width = 2 if name in ("effect", "held", "placed") else 1
        assert np.array_equal(column.reshape(3, width).view(np.int32), values[:, first : first + width])
    rows.flags[:] |= 1 << 20
    assert (values[:, 3] >> 20 == 1).all(), "a column is a view"


def test_a_branch_column_is_absent_where_no_policy_branches() -> None:
    with pytest.raises(KeyError):
        RecordRows(np.zeros((1, num_columns(row_type(2))), np.int32), 2).column("held")


def test_the_head_of_one_row() -> None:
    row = np.array([(7, 11, 5, 3, 0.5, 0.0, 0.0, 0.0, [0.25])], row_type(1))
    assert HEAD.unpack_from(row.tobytes()) == (7, 11, 5, 3, 0.5)


def test_the_records_load_no_torch() -> None:
    code = "import sys, forkpoint_policies.worker.records; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@given(
    rows=st.integers(0, 5),
    rules=st.integers(0, 16),
    detailed=st.integers(0, 3),
    alternatives=st.integers(0, 6),
    seconds=st.floats(0, 10),
    seed=st.integers(0, 999),
)
def test_decoding_returns_what_was_encoded(
    rows: int, rules: int, detailed: int, alternatives: int, seconds: float, seed: int
) -> None:
    random = np.random.default_rng(seed)
    integers = random.integers(0, 2**31, (rows, 4), dtype=np.int32)
    numbers = random.standard_normal((rows, 4 + rules), np.float32)
    owners = random.integers(0, 99, (detailed, 1), dtype=np.int32)
    tokens = random.integers(0, 2**31, (detailed, alternatives), dtype=np.int32)
    probabilities = random.random((detailed, alternatives), np.float32)
    rows_sent = np.concatenate((integers, numbers.view(np.int32)), axis=1)
    certainty = random.random((detailed, 1), np.float32)
    details = np.concatenate((owners, tokens, probabilities.view(np.int32), certainty.view(np.int32)), axis=1)
    batch = decode(encode(rows_sent, details, rules, seconds))
    assert np.array_equal(
        np.stack((batch.rows.handle, batch.rows.position, batch.rows.last_token, batch.rows.flags), axis=1), integers
    )
    measured = [batch.rows.column(name) for name in ("entropy", "varentropy", "top_probability", "connector_mass")]
    assert np.array_equal(np.stack(measured, axis=1), numbers[:, :4])
    assert np.array_equal(batch.rows.effect, numbers[:, 4:])
    assert np.array_equal(batch.detailed, owners[:, 0])
    assert np.array_equal(batch.alternatives, tokens)
    assert np.array_equal(batch.probabilities, probabilities)
    assert np.array_equal(batch.certainty, certainty[:, 0])
    assert batch.seconds == seconds


def test_invalid_frames_raise_an_error() -> None:
    frames = encode(np.zeros((2, num_columns(row_type(0))), np.int32), np.zeros((0, 2), np.int32), 0, 0.5)
    for wrong in ([], frames[:2], [*frames, b""]):
        with pytest.raises(ValueError, match="3 frames"):
            decode(wrong)
    with pytest.raises(ValueError, match="as long as the header says"):
        decode([frames[0], frames[1][:-4], frames[2]])
    with pytest.raises(ValueError, match="a header has"):
        decode([b"\xc1", *frames[1:]])
    with pytest.raises(ValueError, match="not a header"):
        decode([b"\xff" * len(frames[0]), *frames[1:]])


@pytest.mark.parametrize("rows", [0, 3])
def test_signals_of_hidden_states_come_back(rows: int) -> None:
    sent = HiddenRows(np.arange(2 * rows, dtype=np.int32).reshape(rows, 2), np.full((rows, 3), np.nan, np.float32))
    sent.values[:, 1] = 0.25
    frames = encode_hidden(sent)
    assert len(frames) == 4, "the other messages have three, two and one"
    found = decode_hidden(frames)
    assert np.array_equal(found.places, sent.places)
    assert np.array_equal(found.values, sent.values, equal_nan=True)


@pytest.mark.parametrize("wrong", [0, 1, 2])
def test_wrong_signals_of_hidden_states_are_rejected(wrong: int) -> None:
    frames = encode_hidden(HiddenRows(np.zeros((2, 2), np.int32), np.zeros((2, 3), np.float32)))
    frames[wrong] = frames[wrong][:-1]
    with pytest.raises(ValueError, match="signals of hidden states"):
        decode_hidden(frames)
