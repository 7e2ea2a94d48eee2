"""`fork-temperature` finds planted effects, and only those."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from forkpoint_clients.findings.base import Result
from forkpoint_clients.findings.catalog import (
    fork_temperature,
)
from tests.unit.clients.findings.synthetic import Answers, answers_with, trace


def test_fork_temperature_finds_what_is_planted() -> None:
    def found(*answers: Answers) -> Result:
        return fork_temperature.conclude(dict(zip(fork_temperature.NAMES, answers, strict=True)), 0.2, 0.25)

    assert (
        found(
            answers_with(0.9), answers_with(0.9), answers_with(0.3), answers_with(0.3), answers_with(0.1)
        ).verdict.word
        == "reproduced"
    )
    assert (
        found(
            answers_with(0.9), answers_with(0.2), answers_with(0.9), answers_with(0.9), answers_with(0.9)
        ).verdict.word
        == "not reproduced"
    )
    assert found(*(answers_with(0.5, seed=n) for n in range(5))).verdict.word == "undecided"
    dose = found(answers_with(0.9), answers_with(0.9), answers_with(0.9), answers_with(0.3), answers_with(0.1))
    assert dose.verdict.word != "reproduced", "if random positions lose as much, the effect is not due to forks"
    assert sum(part.alpha for part in dose.claims[0].parts) == pytest.approx(0.05)
    assert "3 (forks), 3 (random positions), 3 (as many execution tokens)" in dose.notes[0]


def test_as_many_other_tokens_are_heated_as_there_are_forks() -> None:
    texts = [trace(f"q{n}", [" a"] * 100, [1.0] * 30 + [0.1] * 50 + [1.0] * 20, reasoning=80) for n in range(3)]
    assert fork_temperature.share_of(texts) == (0.375, 0.6)
    policy = fork_temperature.treatments(0.6)[3].policy
    assert isinstance(policy, Mapping)
    (rule,) = policy["rules"]
    assert rule["when"] == {"region": "reasoning", "entropy_below": "fork", "probability": 0.6}
    assert fork_temperature.share_of([trace("q", [" a"], [1.0])])[1] == 1.0
    assert fork_temperature.share_of([trace("q", [" a"], [0.1])])[1] > 0
