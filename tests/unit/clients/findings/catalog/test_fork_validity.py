"""`fork-validity` tests the right positions, and finds planted forks."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.coverage import Forks, verified_shares
from forkpoint_clients.findings.catalog import (
    fork_validity,
)
from tests.unit.clients.findings.synthetic import trace, words


def test_fork_validity_finds_what_is_planted() -> None:
    def tried(high: float, low: float, seed: int) -> list[fork_validity.TestedPosition]:
        random = np.random.default_rng(seed)
        kinds = [n % 8 < 4 for n in range(400)]
        verified = [bool(random.random() < (high if kind else low)) for kind in kinds]
        return [
            fork_validity.TestedPosition(f"q{n // 8}", kind, 1.0 if kind else 0.05, verified[n], 0.2)
            for n, kind in enumerate(kinds)
        ]

    assert words(fork_validity.conclude(tried(0.8, 0.04, 0), 0.5, 16)) == ["reproduced", "reproduced"]
    assert words(fork_validity.conclude(tried(0.4, 0.1, 0), 0.5, 16)) == ["reproduced", "undecided"]
    assert words(fork_validity.conclude(tried(0.1, 0.5, 1), 0.5, 16)) == ["not reproduced", "not reproduced"]
    assert words(fork_validity.conclude(tried(0.3, 0.3, 2), 0.5, 16))[0] == "undecided"
    assert words(fork_validity.conclude([], 0.5, 16)) == ["undecided", "undecided"]


def test_few_verified_forks_decide_nothing() -> None:
    """One low-entropy position in each of 5 of 10 texts: the test of signs gives 0.06, and a bootstrap would be
    certain.
    """
    found = [
        fork_validity.TestedPosition(f"q{text}", high, 1.0, not high and position == 0 and text < 5, 0.2)
        for text in range(10)
        for high in (True, False)
        for position in range(3)
    ]
    (part,) = fork_validity.conclude(found, 0.5, 12).claims[0].parts
    assert part.estimate.value == pytest.approx(-5 / 30)
    assert part.estimate.high > 0
    assert part.verdict.word == "undecided"


def test_positions_are_of_both_kinds_and_inside_the_reasoning() -> None:
    found = [
        trace(f"q{n}", [" a"] * 50, [1.0 if position % 5 == 0 else 0.01 for position in range(50)], reasoning=40)
        for n in range(3)
    ]
    positions, threshold = fork_validity.choose_positions(found, seed=1)
    assert threshold < 1.0
    for some in positions.values():
        assert len([position for position in some if position % 5 == 0]) == fork_validity.HIGH
        assert len(some) == fork_validity.HIGH + fork_validity.LOW
        assert max(some) < 40
    assert positions == fork_validity.choose_positions(found, seed=1)[0]
    assert positions != fork_validity.choose_positions(found, seed=2)[0]


def test_a_position_with_another_token_is_left_out() -> None:
    one = {
        "index": 1,
        "token": " b",
        "entropy": 0.9,
        "alternatives": [{}, {"probability": 0.1}],
        "verified": {"verified": True},
    }
    texts = {"q": trace("q", [" a", " b"], [0.1, 0.9])}
    assert [position.high for position in fork_validity.tested_positions({"q": [one]}, texts, 0.5)] == [True]
    assert list(fork_validity.tested_positions({"q": [{**one, "token": " c"}]}, texts, 0.5)) == []


@pytest.mark.parametrize("texts", [10, 24, 40])
@pytest.mark.parametrize(("high", "low"), [(0.03, 0.03), (0.1, 0.03), (0.3, 0.1), (0.3, 0.03)])
def test_the_intervals_hold_with_few_forks(texts: int, high: float, low: float) -> None:
    """At least 93 % of them, save chance; `make bench ARGS=coverage` makes the whole table."""
    row = verified_shares(texts, Forks(high, low), repeats=200)
    assert row.difference >= 0.9
    assert row.share_in_top >= 0.9


def test_without_a_fork_elsewhere_the_interval_holds_the_measured_share() -> None:
    """All verified forks lie in the top fifth: the measured share is 1, and so is the upper end of its interval."""
    tested = [
        fork_validity.TestedPosition(f"q{text}", high, 1.0 if high else 0.1, high and text < 5, 0.3)
        for text in range(20)
        for high in (True, True, True, *[False] * 12)
    ]
    estimate = fork_validity.claims(tested)[1].parts[0].estimate
    assert estimate.value == estimate.high == 1.0
    assert 0.3 < estimate.low < 0.9
