"""A flood of records: what the server counts as missing is what is missing."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.flood.__main__ import keeps_up, listing
from benchmarks.flood.measurement import Flood, measure
from benchmarks.flood.schedule import Schedule

SMALL = Flood(records_per_second=2_000, seconds=1.0, feeders=2, rows=4, answer_tokens=100)


@pytest.mark.parametrize("steps", [1, 7, 20, 33])
def test_both_sides_know_which_answer_a_row_belongs_to(steps: int) -> None:
    schedule = Schedule(first_handle=5, rows=3, tokens=7, steps=steps)
    rows = {
        (handle, position): step
        for step in range(steps)
        for handle, position in zip(*(column.tolist() for column in schedule.at(step)), strict=True)
    }
    assert len(rows) == 3 * steps
    assert all(schedule.step_of(int(h[0]), int(p[0])) == step for step in range(steps) for h, p in [schedule.at(step)])
    answers = list(schedule.answers())
    assert [one.handle for one in answers] == list(range(5, 5 + schedule.num_handles))
    found = {
        (one.handle, one.first_position + step - one.first_step): step
        for one in answers
        for step in range(one.first_step, one.last_step + 1)
    }
    assert found == rows


@pytest.mark.slow
@pytest.mark.parametrize("encrypted", [False, True])
async def test_all_records_arrive_at_a_small_rate(encrypted: bool) -> None:
    flood = Flood(**{**vars(SMALL), "encrypted": encrypted})
    flooded = await measure(flood)
    assert flooded.arrived == flooded.sent == 2_000
    assert flooded.lost == 0
    assert flooded.missing == flooded.late_or_lost
    assert len(flooded.lag) == 2 * flood.num_steps
    assert (flooded.lag > 0).all()
    assert np.isfinite(flooded.lag_at_end)
    assert flooded.stored_tokens == flooded.sent
    assert flooded.cpu_microseconds > 0
    assert flooded.bytes_per_record == 4 * 9 + 28 / flood.rows  # the columns of one rule, and the header's share
    (row,) = listing(flood, [flooded]).rows
    assert row[1] == ("yes" if keeps_up(flooded) else "no")


@pytest.mark.slow
async def test_the_loss_that_is_counted_is_the_real_one() -> None:
    flooded = await measure(
        Flood(records_per_second=None, steps=15_000, feeders=1, rows=4, answer_tokens=500, absent=True)
    )
    assert flooded.lost > 0
    assert flooded.missing == flooded.late_or_lost == flooded.lost == flooded.sent - flooded.arrived
    assert not keeps_up(flooded)


@pytest.mark.slow
async def test_the_loss_that_is_counted_in_a_cut_is_the_real_one() -> None:
    flooded = await measure(
        Flood(
            records_per_second=8_000, seconds=6.0, feeders=2, rows=8, answer_tokens=50, encrypted=True, cut_seconds=2.5
        )
    )
    assert flooded.lost == 0, "what the sender's queue had no room for"
    assert flooded.arrived < flooded.sent, "what was on its way is lost"
    assert flooded.missing == flooded.late_or_lost
    assert flooded.missing >= flooded.sent - flooded.arrived
    assert np.isfinite(flooded.lag_at_end), "the last records have arrived: the workers have reconnected"
    assert not keeps_up(flooded)


async def test_a_local_socket_cannot_be_cut() -> None:
    with pytest.raises(ValueError, match="only a flood over TCP, at a pace"):
        await measure(Flood(cut_seconds=1.0))


async def test_a_flood_without_a_pace_needs_its_number_of_steps() -> None:
    with pytest.raises(ValueError, match="needs its number of steps"):
        await measure(Flood(records_per_second=None))
