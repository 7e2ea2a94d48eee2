"""Confidence sequences and their p-values: valid at all times at once, however often one looks and whenever one stops.

The asymptotic confidence sequence of Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas (arXiv:2103.06476, Theorem 2.2):
Robbins' normal mixture, with the variance estimated. The boundary itself is ville's. Its clock is the number of
requests, not of units: where the requests of a unit are correlated, requests run faster than information. In simulation
that errs on the safe side (docs/experiments-analysis.md says why, and what was seen).
"""

from __future__ import annotations

import math
from functools import cache

from scipy.optimize import brentq
from scipy.special import log_ndtr
from ville import best_rho, normal_mixture

NARROWEST_REQUESTS = 5000.0
"""The number of requests at which the intervals are narrowest relative to those of a fixed sample. The guarantee needs
it to be chosen before the data; at a tenth of it intervals are a quarter wider, at a hundred times as many a sixth."""

TUNED_ALPHA = 0.05
"""The level at which this holds. One for all, so that the interval of a smaller alpha contains that of a larger one."""


@cache
def mixing(one_sided: bool) -> float:
    """The precision of the mixture, in requests."""
    return float(best_rho(NARROWEST_REQUESTS, TUNED_ALPHA, one_sided))


def radius(variance: float, requests: float, alpha: float, one_sided: bool = False) -> float:
    """The half-width of the interval around an estimate, or the reach of a one-sided one.

    `variance` is that of the estimate as of now, `requests` its clock. One-sided, the mixture is over a half-normal
    distribution, whose boundary has no closed form.
    """
    boundary = math.sqrt(variance / requests) * float(normal_mixture(requests, alpha, mixing(one_sided)))
    if not one_sided:
        return boundary
    deviation = math.sqrt(variance)

    def missing(z: float) -> float:
        return -math.log(alpha) - log_e_value(z, requests, one_sided)

    return float(brentq(missing, 0.0, boundary / deviation)) * deviation


def log_e_value(z: float, requests: float, one_sided: bool = False) -> float:
    """The log e-value of the mixture against 0; one-sided, against 0 or less. `z`: estimate over standard error.

    It reaches log(1 / alpha) exactly where the interval of that alpha leaves out 0.
    """
    share = requests / (requests + mixing(one_sided))
    log_e = 0.5 * (math.log1p(-share) + z * z * share)
    return log_e + math.log(2) + float(log_ndtr(z * math.sqrt(share))) if one_sided else log_e


def p_value(estimate: float, variance: float, requests: float, one_sided: bool = False) -> float:
    """One over the e-value against no difference, at most 1; one-sided, small where the estimate is above 0."""
    return math.exp(-max(log_e_value(estimate / math.sqrt(variance), requests, one_sided), 0.0))
