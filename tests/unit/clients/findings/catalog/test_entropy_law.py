"""`entropy-law` finds planted constants, and no law in data without one."""

from __future__ import annotations

import pytest

from forkpoint_clients.findings.catalog import (
    entropy_law,
)
from tests.unit.clients.findings.synthetic import entropies


def test_entropy_law_finds_its_constants() -> None:
    found = entropy_law.conclude(entropies(0.8, 1.6, 0.0))
    assert found.verdict.word == "reproduced"
    assert found.claims[0].parts[0].estimate.value == pytest.approx(0.8, abs=0.03)
    assert next(one for one in found.figures if "ceiling" in one.what).estimate.value == pytest.approx(0.8, abs=0.02)
    assert entropy_law.conclude(entropies(-0.5, 0.0, 0.0)).verdict.word == "not reproduced"  # it rises
    always = entropy_law.conclude(entropies(0.0, 1.0, 0.0))
    assert (always.verdict.word, always.claims[0].parts[0].estimate.value) == ("undecided", 0.0)  # all are right
    flat = entropy_law.conclude(entropies(0.0, 0.5, 0.1))
    assert flat.verdict.word == "undecided"  # there is no law
    assert next(one for one in flat.figures if "variance" in one.what).estimate.value < 0.3
