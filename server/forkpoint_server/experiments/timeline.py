"""How an experiment's intervals narrowed: the analysis of one metric as it stood at several times."""

from __future__ import annotations

import time
from typing import Any

from sqlalchemy import Engine

from forkpoint_policies.spec import InputError, unknown_name
from forkpoint_server.store.aggregates import unit_sums
from forkpoint_server.store.experiments import StoredExperiment

from .analysis.comparisons import describe_difference
from .analysis.estimates import estimate_difference, estimate_mean
from .analysis.sums import NONE
from .report import metrics_of, sums_by_metric

MAX_POINTS = 50


def timeline(database: Engine, stored: StoredExperiment, metric: str, points: int) -> dict[str, Any]:
    """Each arm's difference from the control in a metric, of the requests before each of `points` times.

    The times divide the experiment's age evenly; the last is now. Outcomes count at the time of their request. Raises
    InputError for an unknown metric.
    """
    definition, now = stored.definition, time.time()
    step = max(0.0, now - stored.created) / points
    found: dict[str, list[dict[str, Any]]] = {arm.name: [] for arm in definition.arms if arm.name != definition.control}
    measured: set[str] = set()
    for number in range(1, points + 1):
        until = stored.created + number * step
        sums = {arm: sums_by_metric(ours) for arm, ours in unit_sums(database, stored.id, until).items()}
        measured = {name for ours in sums.values() for name in ours}
        control = sums.get(definition.control, {}).get(metric, NONE)
        for arm, rows in found.items():
            estimate = estimate_difference(sums.get(arm, {}).get(metric, NONE), control)
            difference = describe_difference(estimate, estimate_mean(control).value, definition.alpha)
            rows.append({"until": round(until, 3), **{name: difference[name] for name in ("estimate", "interval")}})
    names = {one.name for one in metrics_of(stored, measured)}
    if metric not in names:
        raise InputError("metric", unknown_name("metric", metric, sorted(names)))
    return {"object": "experiment.timeline", "name": stored.name, "metric": metric, "arms": found}
