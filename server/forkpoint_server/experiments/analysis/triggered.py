"""The triggered analysis: only requests in which a policy could have acted, in its arm and in the control.

In all others the arms do the same, and their difference is noise. The analysis is valid if the policy does not affect
which requests are triggered. It does not, because a request is triggered by the first position at which a rule would
fire: until then no arm has changed anything. A rule that acts in place of certain tokens is triggered by chance: in
shadow by the token that is sampled, in its arm by the kernel with the same probability, as far as the request is
sampled from the plain distribution at its temperature. Where units can be distinguished, a test checks that the same
share of requests is triggered in both arms.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .comparisons import describe_arm, describe_difference, finite, p_of
from .estimates import Estimate, estimate_difference, estimate_mean
from .sums import NONE, Arm, Sums

ALPHA = 0.01
"""Of the test that the same share is triggered in both arms."""


def describe_triggered(arm: Arm, control: Arm, metric: str, alpha: float) -> dict[str, Any] | None:
    """The triggered requests of both arms, their difference, and its effect on all requests; None if none is triggered.

    `diluted` is the difference times the share of triggered requests, which is taken as known. Where the test of the
    shares fails, only the means remain.
    """
    ours, theirs = arm.triggered.get(metric, NONE), arm.control_triggered.get(metric, NONE)
    if not (ours.usable.any() or theirs.usable.any()):
        return None
    observed = control.metrics if arm.control_observed is None else arm.control_observed
    everything = arm.metrics.get(metric, NONE), observed.get(metric, NONE)
    shares = [_share(one, all_) for one, all_ in zip((ours, theirs), everything, strict=True)]
    alike = _test(shares[0], shares[1])
    estimate = estimate_difference(ours, theirs)
    if alike["passed"] is False:
        estimate = Estimate(
            None, float("nan"), 0.0, "the arms are not triggered alike, so their triggered requests cannot be compared"
        )
    means = {"arm": describe_arm(ours, alpha), "control": describe_arm(theirs, alpha)}
    difference = describe_difference(estimate, means["control"]["mean"], alpha)
    share = _requests(ours, theirs) / max(_requests(*everything), 1.0)
    diluted = {
        "share": finite(min(share, 1.0)),
        "estimate": _times(difference["estimate"], share),
        "interval": difference["interval"] and [_times(end, share) for end in difference["interval"]],
    }
    return {**means, **difference, "diluted": diluted, "alike": alike}


def _test(ours: Sums | None, theirs: Sums | None) -> dict[str, Any]:
    """The test that the same share is triggered in both arms; `passed` is None where it cannot be tested."""
    if ours is None or theirs is None:
        return {"passed": None, "p_value": None, "shares": None}
    p_value = p_of(estimate_difference(ours, theirs))
    return {
        "passed": p_value > ALPHA,
        "p_value": p_value,
        "shares": [finite(estimate_mean(one).value) for one in (ours, theirs)],
    }


def _share(triggered: Sums, everything: Sums) -> Sums | None:
    """The triggered requests of each unit, as sums over all its requests; None where units cannot be matched."""
    if (triggered.units is None) != (everything.units is None) or (triggered.periods is None) != (
        everything.periods is None
    ):
        return None
    keys = [_keys(one) for one in (everything, triggered)]
    if keys[0] is None or keys[1] is None:
        return None
    entries, indices = np.unique(np.concatenate([keys[0], keys[1]]), axis=0, return_inverse=True)
    of_all, of_triggered = np.split(indices.ravel(), [len(keys[0])])
    requests = np.bincount(of_all, everything.requests[everything.usable], len(entries)).astype(np.float64)
    sums = np.bincount(of_triggered, triggered.requests[triggered.usable], len(entries)).astype(np.float64)
    periods = None if everything.periods is None else entries[:, 1]
    return Sums(requests, sums, None if everything.units is None else entries[:, 0], periods)


def _keys(sums: Sums) -> NDArray[np.int64] | None:
    """[usable entries, 2] the unit and period of each. Units without numbers get some if each has a single request."""
    periods = np.zeros(sums.requests.size, np.int64) if sums.periods is None else sums.periods
    periods = periods[sums.usable]
    if sums.units is not None:
        return np.stack([sums.units[sums.usable], periods], axis=1)
    if np.any(sums.requests[sums.usable] != 1):
        return None
    order = np.argsort(periods, kind="stable")
    units = np.empty_like(order)
    units[order] = np.arange(order.size) - np.searchsorted(periods[order], periods[order])
    return np.stack([units, periods], axis=1)


def _requests(*of: Sums) -> float:
    return sum(float(sums.requests[sums.usable].sum()) for sums in of)


def _times(value: float | None, share: float) -> float | None:
    return None if value is None else finite(value * share)
