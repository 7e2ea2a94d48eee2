"""When the doses of a policy and its placebo let a comparison conclude anything."""

from __future__ import annotations

import pytest

from forkpoint_policies.doses import doses_are_equal, is_strong_enough, match_ratio, why_no_conclusion


def test_what_is_equal_and_what_is_enough() -> None:
    assert match_ratio(0.2, 0.05) == 0.25
    assert match_ratio(0.0, 0.05) is match_ratio(None, 0.05) is match_ratio(0.2, None) is None
    assert [doses_are_equal(1.0, other) for other in (0.79, 0.8, 1.25, 1.26)] == [False, True, True, False]
    assert [is_strong_enough(ratio) for ratio in (None, 0.79, 0.8, 3.0)] == [False, False, True, True]


@pytest.mark.parametrize(
    ("dose", "placebo_dose", "reason"),
    [
        (None, 0.1, "the doses are not known"),
        (0.1, None, "the doses are not known"),
        (0.0, 0.1, "the policy changed no probabilities, so that it has no dose to compare"),
        (0.4, 0.1, "the placebo has 0.25 of its dose, less than 0.8"),
        (0.1, 0.081, None),
        (0.1, 0.3, None),
    ],
)
def test_why_nothing_is_concluded(dose: float | None, placebo_dose: float | None, reason: str | None) -> None:
    assert why_no_conclusion(dose, placebo_dose) == reason
