"""Many streams at once under mixed policies: no error, nothing stuck, nothing left over, and no process that grows."""

from __future__ import annotations

import pytest

from benchmarks.load.measurement import Plan, measure
from benchmarks.load.report import problems, tables

pytestmark = pytest.mark.soak


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("plan", [Plan(64, 40, 1, 10), Plan(256, 600, 3, 40)], ids=["short", "whole"])
def test_nothing_breaks_and_nothing_grows(plan: Plan, capsys: pytest.CaptureFixture[str]) -> None:
    measured = measure(plan)
    with capsys.disabled():
        for table in tables(measured):
            print(f"\n{table.markdown()}\n")
    assert len({stream.kind for stream in measured.streams}) == 3
    assert problems(measured) == []
