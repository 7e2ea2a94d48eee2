"""The search for the strength at which a placebo has its policy's dose."""

from __future__ import annotations

import pytest

from forkpoint_clients.evaluate.dose_search import CLOSE, MAX_TRIALS, closest, next_strength, search
from forkpoint_policies.spec import MAX_STRENGTH_NATS


@pytest.mark.parametrize("dose", [1e-4, 0.003, 0.05, 0.19])
async def test_the_search_ends_close_to_any_dose_that_can_be_reached(dose: float) -> None:
    async def measure(strength: float) -> float:
        return 0.2 * strength**2 / (strength**2 + 30.0)

    tried = await search(measure, dose)
    best = closest(tried, dose)
    assert best is not None
    assert abs(tried[best] / dose - 1) <= CLOSE
    assert len(tried) <= MAX_TRIALS


async def test_the_search_ends_where_no_dose_is_reported() -> None:
    async def measure(_: float) -> None:
        return None

    assert closest(await search(measure, 0.1), 0.1) is None


def test_the_search_stays_within_the_strengths_there_are() -> None:
    assert next_strength({30.0: 0.01}, 0.9) == MAX_STRENGTH_NATS
    assert next_strength({1.0: 0.0}, 0.1) == 6.0
    assert 1.0 < next_strength({1.0: 0.2, 2.0: 0.1}, 0.15) < 2.0, "chance may turn two doses round"
