"""Power: how many more requests until an effect of a certain size would show."""

from __future__ import annotations

import math

from scipy.optimize import brentq
from scipy.special import ndtri

from .confidence_sequence import log_e_value
from .estimates import Estimate

POWER = 0.8
"""The probability with which the effect then shows."""

MAX_TIMES = 1e9
"""More than this many times the requests so far counts as never."""


def times_more(estimate: Estimate, effect: float, alpha: float, one_sided: bool = False) -> float | None:
    """How many times the requests so far show an effect with a probability of POWER; 1 where those so far do.

    None where the variance is still uncertain, the effect is 0, or more than MAX_TIMES would be needed.
    """
    if estimate.reason is not None or not (math.isfinite(effect) and effect > 0):
        return None

    def missing(log_times: float) -> float:
        times = math.exp(log_times)
        z = effect * math.sqrt(times / estimate.variance) - float(ndtri(POWER))
        return -math.log(alpha) - log_e_value(max(z, 0.0), estimate.requests * times, one_sided)

    if missing(0.0) <= 0:
        return 1.0
    furthest = math.log(MAX_TIMES)
    return None if missing(furthest) > 0 else math.exp(brentq(missing, 0.0, furthest))
