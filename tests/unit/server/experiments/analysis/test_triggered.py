"""The triggered analysis: a difference among few requests, its share in all, and arms with unequal shares."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from forkpoint_server.experiments.analysis.sums import Arm, Sums
from forkpoint_server.experiments.analysis.triggered import describe_triggered


def arms(shares: tuple[float, float], effect: float, numbered: bool, count: int = 4000) -> tuple[Arm, Arm]:
    """A control and an arm with these shares of triggered requests; those of the arm are longer by the effect."""
    random = np.random.default_rng(0)
    made = []
    for share, added in zip(shares, (0.0, effect), strict=True):
        triggered = random.random(count) < share
        values = random.normal(100, 10, count) + added * triggered
        numbers = np.arange(count)
        everything = Sums(np.ones(count), values, numbers if numbered else None)
        some = Sums(np.ones(int(triggered.sum())), values[triggered], numbers[triggered] if numbered else None)
        made.append((everything, some))
    (all_control, some_control), (all_arm, some_arm) = made
    control = Arm("none", {"tokens": all_control}, {}, {})
    return control, Arm("calm", {"tokens": all_arm}, {"tokens": some_arm}, {"tokens": some_control})


@pytest.mark.parametrize("numbered", [True, False])
def test_the_difference_is_found_where_it_is(numbered: bool) -> None:
    control, arm = arms((0.25, 0.25), 4.0, numbered)
    found = describe_triggered(arm, control, "tokens", 0.05)
    assert found is not None
    low, high = found["interval"]
    assert 0 < low < 4 < high
    assert found["alike"]["passed"]
    assert found["alike"]["shares"] == pytest.approx([0.25, 0.25], abs=0.03)
    assert found["diluted"]["share"] == pytest.approx(0.25, abs=0.02)
    assert found["diluted"]["estimate"] == pytest.approx(1.0, abs=0.3)
    assert found["diluted"]["interval"] == pytest.approx([found["diluted"]["share"] * end for end in (low, high)])


@pytest.mark.parametrize("numbered", [True, False])
def test_arms_that_are_not_triggered_alike_are_not_compared(numbered: bool) -> None:
    control, arm = arms((0.25, 0.35), 4.0, numbered)
    found = describe_triggered(arm, control, "tokens", 0.05)
    assert found is not None
    assert not found["alike"]["passed"]
    assert (found["estimate"], found["interval"], found["p_value"]) == (None, None, 1.0)
    assert found["diluted"]["estimate"] is None
    assert "not triggered alike" in found["reason"]
    assert found["arm"]["mean"] == pytest.approx(104, abs=1)


def test_a_control_whose_requests_alternate() -> None:
    """Each control request observes the triggers of one of two arms; only those that observe this arm count here."""
    control, arm = arms((0.8, 0.8), 0.0, numbered=True)
    half = np.arange(4000) % 2 == 0
    everything, some = control.metrics["tokens"], arm.control_triggered["tokens"]
    assert some.units is not None
    seen = some.units % 2 == 0
    observed = Sums(everything.requests[half], everything.sums[half], np.arange(4000)[half])
    here = {"tokens": Sums(some.requests[seen], some.sums[seen], some.units[seen])}
    without = describe_triggered(replace(arm, control_triggered=here), control, "tokens", 0.05)
    found = describe_triggered(
        replace(arm, control_triggered=here, control_observed={"tokens": observed}), control, "tokens", 0.05
    )
    assert without is not None
    assert found is not None
    assert not without["alike"]["passed"]
    assert found["alike"]["passed"]
    assert found["diluted"]["share"] == pytest.approx(0.8, abs=0.02)


def test_units_are_matched_by_number_and_period() -> None:
    everything = Sums(np.array([3.0, 2.0, 4.0]), np.zeros(3), np.array([7, 7, 9]), np.array([0, 1, 1]))
    triggered = Sums(np.array([2.0, 1.0]), np.zeros(2), np.array([7, 9]), np.array([1, 1]))
    control = Arm("none", {"tokens": everything}, {}, {})
    found = describe_triggered(
        Arm("calm", {"tokens": everything}, {"tokens": triggered}, {"tokens": triggered}), control, "tokens", 0.05
    )
    assert found is not None
    assert found["alike"]["shares"] == pytest.approx([3 / 9, 3 / 9])


def test_unmatched_units_are_not_tested() -> None:
    everything, triggered = Sums(np.full(200, 2.0), np.linspace(0, 1, 200)), Sums(np.ones(150), np.linspace(0, 1, 150))
    control = Arm("none", {"tokens": everything}, {}, {})
    found = describe_triggered(
        Arm("calm", {"tokens": everything}, {"tokens": triggered}, {"tokens": triggered}), control, "tokens", 0.05
    )
    assert found is not None
    assert found["alike"] == {"passed": None, "p_value": None, "shares": None}
    assert found["estimate"] == pytest.approx(0)


def test_nothing_was_triggered() -> None:
    control, arm = arms((0.5, 0.5), 0.0, numbered=True)
    assert describe_triggered(Arm("calm", arm.metrics, {}, {}), control, "tokens", 0.05) is None
