"""Several comparisons at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values after Holm's correction: each is at most alpha only if any false rejection among all is that improbable.

    statsmodels' multipletests gives the same, but collects the whole process's garbage at each call, which stops a server
    that holds a model for a good part of a second.
    """
    given = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(given, kind="stable")
    corrected = np.empty_like(given)
    corrected[order] = np.minimum(np.maximum.accumulate(given[order] * np.arange(given.size, 0, -1)), 1.0)
    return [float(p) for p in corrected]
