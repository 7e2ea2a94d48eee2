"""The trace of a choice: records may arrive in any order and width."""

from __future__ import annotations

import asyncio
import time

import numpy as np

from forkpoint_policies.worker.records import DRAFT, FORCED, IN_REASONING, RULES_SHIFT, num_columns, row_type
from forkpoint_server.traces.likeliest import Alternatives
from forkpoint_server.traces.trace import Trace


def row(position: int, entropy: float, flags: int = 0, rules: int = 1, after: int = 0) -> tuple[int, int, bytes]:
    """A record as the worker sends it, of the position after a token, with its numbers of columns and rules."""
    numbers = np.zeros(4 + rules, np.float32)
    numbers[0] = entropy
    head = np.array([7, position, after, flags], np.int32)
    return num_columns(row_type(rules)), rules, np.concatenate((head, numbers.view(np.int32))).tobytes()


def trace_of(tokens: int, *rows: tuple[int, int, bytes]) -> Trace:
    trace = Trace(handle=7, choice=0, tokens=list(range(tokens)))
    for one in rows:
        trace.add(*one)
    return trace


def test_a_profile_is_in_order_of_position_and_the_last_record_of_a_position_counts() -> None:
    """Records may come from batches of other widths: a batch's longest policy sets the number of rules in a record."""
    trace = trace_of(
        3, row(1, 0.1), row(0, 0.5, rules=3), row(1, 0.2, IN_REASONING | 1 << RULES_SHIFT + 2, rules=3), row(2, 0.3)
    )
    profile = trace.profile()
    assert profile.position.tolist() == [0, 1, 2]
    assert np.allclose(profile.entropy, [0.5, 0.2, 0.3])
    assert profile.in_reasoning.tolist() == [False, True, False]
    assert profile.fired.tolist() == [[False] * 3, [False, False, True], [False] * 3]
    assert trace.num_missing == 0


def test_records_beyond_the_tokens_are_left_out_and_lost_ones_are_counted_as_missing() -> None:
    trace = trace_of(4, row(0, 0.1), row(2, 0.2, FORCED), row(4, 0.9), row(5, 0.9))
    assert trace.profile().position.tolist() == [0, 2]
    assert trace.profile().forced.tolist() == [False, True]
    assert trace.num_missing == 2
    assert trace_of(2).num_missing == 2
    assert trace_of(0).profile().entropy.shape == (0,)


def test_alternatives_are_stored_at_reported_positions_and_cut_to_the_requested_number() -> None:
    """Another request in the batch may have requested more; only that one pays for them."""
    trace = trace_of(2, row(0, 0.1), row(1, 2.0))
    trace.threshold, trace.max_alternatives = 0.672, 2
    for position, entropy in ((0, 0.1), (1, 2.0), (2, 0.2)):
        trace.add_alternatives(position, entropy, np.array([1, 2, 3], np.int32), np.array([0.5, 0.25, 0.1], np.float32))
    trace.finish()
    assert trace.profile().alternatives == {1: Alternatives((1, 2), (0.5, 0.25))}
    assert trace.profile().position.tolist() == [0, 1]
    trace.add_alternatives(1, 0.1, np.array([1], np.int32), np.array([0.5], np.float32))
    assert trace.alternatives(1) is None, "the last record of a position counts"


def test_records_after_draft_tokens_count_once_the_drafts_are_accepted() -> None:
    """A step evaluates one position after what is committed, and further ones after drafts, which may be rejected."""
    trace = trace_of(1, row(0, 0.1), row(1, 0.2, DRAFT, after=5), row(2, 0.3, DRAFT, after=6))
    assert not trace.is_valid(1), "the token at 0 is another one"
    assert trace.num_missing == 0
    trace.tokens += [1]
    assert (trace.num_missing, trace.profile().position.tolist()) == (1, [0])
    trace.add(*row(1, 0.5))
    trace.add(*row(2, 0.6, DRAFT, after=1))
    trace.add(*row(3, 0.7, DRAFT, after=9))
    trace.tokens += [2, 3]  # the first draft was accepted, the second was not
    assert [trace.is_valid(position) for position in range(4)] == [True, True, True, False]
    assert (trace.num_missing, trace.profile().entropy.tolist()) == (1, [np.float32(0.1), 0.5, np.float32(0.6)])
    trace.add(*row(3, 0.8))
    assert (trace.num_missing, trace.profile().entropy.tolist()[3:]) == (0, [np.float32(0.8)])


def test_a_right_draft_after_a_wrong_one_does_not_count() -> None:
    """Regardless of how many steps the engine returns at once."""
    trace = trace_of(0, row(0, 0.1), row(1, 0.2, DRAFT, after=8), row(2, 0.3, DRAFT, after=1))
    trace.tokens += [0, 1, 2]
    assert [trace.is_valid(position) for position in range(3)] == [True, False, False]
    shared = Trace(7, 0, tokens=[0, 1, 2], first_position=4)
    for one in (row(4, 0.1), row(5, 0.2, DRAFT, after=0), row(6, 0.3, DRAFT, after=1)):
        shared.add(*one)
    assert shared.num_missing == 0, "of a branch, positions are counted from the beginning of the answer"


async def test_settling_ends_with_the_last_record_or_at_the_deadline() -> None:
    trace = trace_of(1)

    async def later() -> None:
        await asyncio.sleep(0.05)
        trace.add(*row(0, 0.1))

    late, started = asyncio.create_task(later()), time.monotonic()
    await trace.settle(started + 30)
    assert time.monotonic() - started < 10
    assert trace.num_missing == 0
    await late
    trace.tokens.append(5)
    await trace.settle(time.monotonic() + 0.05)
    assert trace.num_missing == 1
