"""Signals of hidden states as a trace stores them, by token of its choice."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forkpoint_policies.compile.compiler import compile_policy
from forkpoint_policies.kernel.native.columns import NUM_HIDDEN
from forkpoint_policies.kernel.step_types import StepRecord
from forkpoint_policies.spec import MAX_READOUTS, parse_policy
from forkpoint_policies.worker.records import HiddenRows, encode_hidden
from forkpoint_server.traces.hidden_signals import RANKS, HiddenSignals, SignalBounds, signal_bounds
from forkpoint_server.traces.receiver import Receiver
from tests.unit.policies.vocabularies import TARGET


def row(first: float) -> NDArray[np.float32]:
    return np.array([first, *[np.nan] * (NUM_HIDDEN - 1)], np.float32)


def first_of(signals: HiddenSignals, tokens: int) -> list[float]:
    found: list[float] = signals.at(np.arange(tokens))[:, 0].tolist()
    return found


def test_there_is_a_name_for_each() -> None:
    assert len(RANKS) + MAX_READOUTS == NUM_HIDDEN
    assert "hidden" in StepRecord.__dataclass_fields__


def test_the_bounds_of_all_rules_are_found_by_signal() -> None:
    conditions = (
        {"effective_rank_above": 30, "effective_rank_acceleration_above": 0, "entropy_above": 1.0},
        {"effective_rank_below": 8.5, "readout_above": {"name": "correct", "value": 0.85}},
        {"effective_rank_above": 20},
        {"effective_rank_above": 30},
    )
    rules: list[dict[str, Any]] = [{"when": condition, "do": {"observe": {}}} for condition in conditions]
    assert signal_bounds(compile_policy(parse_policy({"name": "it", "rules": rules}), TARGET)) == (
        SignalBounds("effective_rank", (20.0, 30.0), (8.5,)),
        SignalBounds("effective_rank_acceleration", (0.0,), ()),
        SignalBounds("readout.correct", (0.85,), ()),
    )
    of_text = parse_policy({"name": "it", "rules": [{"when": {"entropy_above": 1.0}, "do": {"observe": {}}}]})
    assert signal_bounds(compile_policy(of_text, TARGET)) == ()


def test_the_last_value_of_a_position_counts() -> None:
    signals = HiddenSignals()
    assert np.isnan(signals.at(np.arange(2))).all()
    for token, value in ((1, 4.0), (2, 5.0), (1, 6.0), (-3, 7.0)):
        signals.add(token, row(value))
    assert np.array_equal(first_of(signals, 4), [np.nan, 6.0, 5.0, np.nan], equal_nan=True)


def test_a_continued_choice_has_those_of_both() -> None:
    whole, more = HiddenSignals(), HiddenSignals()
    whole.add(0, row(1.0))
    whole.add(3, row(9.0))  # after its end, as drafts may run over it
    more.add(1, row(2.0))
    whole.extend(more, 3)
    assert np.array_equal(first_of(whole, 5), [1.0, np.nan, np.nan, np.nan, 2.0], equal_nan=True)
    whole.extend(HiddenSignals(), 7)
    assert len(first_of(whole, 7)) == 7


def test_what_the_worker_sends_reaches_its_choice() -> None:
    receiver = Receiver()
    trace = receiver.open(0, first_position=10, threshold=1.0, max_alternatives=0)
    rows = HiddenRows(np.array([[trace.handle, 12], [99_999, 12]], np.int32), np.stack((row(3.0), row(8.0))))
    receiver.read(encode_hidden(rows))
    assert np.array_equal(first_of(trace.hidden, 3), [np.nan, np.nan, 3.0], equal_nan=True)
    asyncio.run(receiver.stop())
