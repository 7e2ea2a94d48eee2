"""Simulated experiments, analysed every day: no more false verdicts than promised, and intervals that hold.

`make bench ARGS=aa` writes the tables of docs/experiments-analysis.md; `make soak` tests 1,000 experiments.
"""

from __future__ import annotations

import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from itertools import repeat

import pytest

from benchmarks.aa import run
from benchmarks.days import COMPARISONS, Looks, World

SMALL = World(new_units_per_day=60, days=10)


@pytest.mark.slow
def test_peeking_is_safe_and_at_z_tests_it_is_not() -> None:
    looks = [run(SMALL, number) for number in range(100)]
    assert sum(one.decided for one in looks) <= 5
    assert sum(one.false_by_peeking for one in looks) >= 10
    for comparison in COMPARISONS:
        assert sum(one.covered[comparison] for one in looks) >= 95
    assert sum(one.breached for one in looks) <= 10
    assert sum(one.mismatch for one in looks) <= 1


def test_an_effect_is_found() -> None:
    looks = [
        run(replace(SMALL, new_units_per_day=200, effects={"tokens": -200, "correct": 0.12}), number)
        for number in range(8)
    ]
    assert sum(one.found["b", "tokens"] > 0 for one in looks) >= 6
    assert sum(one.found["b", "correct"] > 0 for one in looks) >= 6
    assert sum(all(one.covered.values()) for one in looks) >= 7


def test_a_raised_share_does_not_mislead_an_analysis_by_period() -> None:
    raised = World(new_units_per_day=150, days=12, raise_after=6, drift=0.25)
    with_periods, without_periods = (
        [run(replace(raised, with_periods=by_period), number) for number in range(8)] for by_period in (True, False)
    )
    assert sum(one.decided for one in with_periods) == 0
    assert sum(one.decided for one in without_periods) >= 3
    assert not any(one.mismatch for one in with_periods)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_a_thousand_experiments_without_an_effect() -> None:
    looks = _all(World(new_units_per_day=200), 1000)
    assert sum(one.decided for one in looks) <= 50
    assert sum(one.false_by_peeking for one in looks) >= 150
    for comparison in COMPARISONS:
        assert sum(one.covered[comparison] for one in looks) >= 950
    assert sum(one.mismatch for one in looks) <= 10


def _all(world: World, count: int) -> list[Looks]:
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(run, repeat(world, count), range(count), chunksize=5))
