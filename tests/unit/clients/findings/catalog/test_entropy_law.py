"""`entropy-law` finds planted constants, and no law in data without one."""

from __future__ import annotations

import pytest

from forkpoint_clients.findings.catalog import (
    entropy_law,
)
from forkpoint_clients.findings.reading import with_sampled_entropy
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


def test_a_narrow_range_of_entropies_decides_nothing() -> None:
    runs = entropies(0.8, 1.6, 0.0)
    narrow = {at: runs[at] for at in (0.5, 0.75)}
    assert entropy_law.conclude(runs).claims[0].parts[0].estimate.low > 0
    found = entropy_law.conclude(narrow)
    assert found.verdict.word == "undecided"
    assert "span 0.100 nats" in found.notes[0]


def test_the_entropy_is_that_of_the_sampled_distribution() -> None:
    summary = {"mean_entropy": 1.0, "choices": [{"policy_logprobs": [-0.5, None, -0.1], "token_ids": [1, 2, 3]}]}
    assert with_sampled_entropy(summary) == {"mean_entropy": 1.0, "sampled_entropy": pytest.approx(0.3)}
    assert with_sampled_entropy({})["sampled_entropy"] is None
