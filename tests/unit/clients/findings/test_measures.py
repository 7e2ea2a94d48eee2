"""Bootstrap intervals cover the truth even with few questions."""

from __future__ import annotations

import math

import numpy as np

from forkpoint_clients.evaluate.stats import Floats
from forkpoint_clients.findings.measures import bootstrapped


def test_bootstraps_allow_for_few_questions() -> None:
    """Of five questions' means, nominal 95 % intervals hold the truth about as often as they say, and 1.96 errors would
    not.
    """
    random = np.random.default_rng(0)
    covered = []
    for _ in range(300):
        values = random.normal(size=5)

        def mean(weights: Floats, values: Floats = values) -> float:
            return float(weights @ values / weights.sum())

        found = bootstrapped(mean, 5, resamples=200)
        covered.append(found.low <= 0 <= found.high)
    assert np.mean(covered) > 0.92
    assert math.isnan(bootstrapped(lambda weights: 1.0, 1).low)
