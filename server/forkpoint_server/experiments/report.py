"""An experiment as the API shows it: its definition and epochs, the figures of each arm, and the analysis."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from sqlalchemy import Engine

from forkpoint_policies.spec import InputError, unknown_name
from forkpoint_server.experiments.analysis.analyse import Arm, Metric, Stratum, Sums, analyse
from forkpoint_server.experiments.analysis.placebos import Dose, PlaceboPair, compare_with_placebos
from forkpoint_server.store.aggregates import (
    UnitSums,
    arm_counts,
    arm_effects,
    longest_seconds,
    unit_sums,
    units_by_epoch,
)
from forkpoint_server.store.built_in_metrics import BUILT_IN_METRICS
from forkpoint_server.store.definitions import epoch_to_dict
from forkpoint_server.store.experiments import StoredExperiment

from .assignment import weight_of
from .live import LiveExperiment
from .placebos import placebos

BUILT_IN = {metric.name: Metric(metric.name, metric.direction, metric.role) for metric in BUILT_IN_METRICS}


def experiment_to_dict(stored: StoredExperiment, problem: str | None = None) -> dict[str, Any]:
    """An experiment as the API shows it. `problem`: why it does not run on this server."""
    definition = stored.definition.to_dict()
    arms = []
    for arm in definition.pop("arms"):
        shown = {key: arm[key] for key in ("name", "policy", "digest", "shadow")}
        status = stored.now.arms[arm["name"]].status
        arms.append({**shown, "weight": arm_weight(stored, arm["name"]), "status": status})
    epochs = [
        {"number": epoch.number, "begun": int(epoch.started_at), "arms": epoch_to_dict(epoch.arms)}
        for epoch in stored.epochs
    ]
    experiment = {
        "object": "experiment", "name": stored.name, **definition, "arms": arms, "status": stored.status,
        "created": int(stored.created), "epochs": epochs,
    }  # fmt: skip
    return experiment if problem is None else {**experiment, "problem": problem}


def arm_weight(stored: StoredExperiment, arm: str) -> float:
    """The share of all units that an arm owns."""
    return weight_of(stored.now.arms[arm].intervals)


def arm_figures(database: Engine, stored: StoredExperiment) -> list[dict[str, Any]]:
    """The requests and units of each arm, and the mean of each metric over requests."""
    counts = arm_counts(database, stored.id)
    figures = []
    for arm in stored.definition.arms:
        totals = counts.get(arm.name)
        means = {} if totals is None else totals.means
        figures.append(
            {
                "arm": arm.name,
                "requests": 0 if totals is None else totals.requests,
                "units": 0 if totals is None else totals.units,
                "metrics": {name: {"requests": count, "mean": mean} for name, (count, mean) in sorted(means.items())},
            }
        )
    return figures


def analyse_experiment(
    database: Engine,
    stored: StoredExperiment,
    live: LiveExperiment | None,
    oldest_start: float | None,
    server: str,
    effects: Mapping[str, float],
) -> dict[str, Any]:
    """The analysis of the requests that have ended. Raises InputError for an effect of an unknown metric.

    `oldest_start`: when the oldest request that still runs on this `server` started. Requests that started later are
    left out until it has ended: otherwise arms with longer requests would seem to have fewer of them.
    """
    until = _settled_until(database, stored, oldest_start, server)
    definition = stored.definition
    control = definition.control
    untriggered = dict(live.untriggered) if live is not None else {}
    control_alternates = live is None or len(live.by_name[control].detectors) > 1

    # sums of all requests, and of those in which each arm's policy could have acted
    sums = unit_sums(database, stored.id, until)
    arms = []
    for number, arm in enumerate(definition.arms):
        triggered = dict[str, Mapping[str, UnitSums]]()
        if arm.name != control and arm.definition is not None and arm.name not in untriggered:
            triggered = dict(unit_sums(database, stored.id, until, (arm.name, control), triggered=number))
        observed = None
        if triggered and control_alternates:
            observed = sums_by_metric(unit_sums(database, stored.id, until, (control,), observed=number).get(control))
        own, of_control = sums_by_metric(triggered.get(arm.name)), sums_by_metric(triggered.get(control))
        arms.append(Arm(arm.name, sums_by_metric(sums.get(arm.name)), own, of_control, observed))

    # metrics: declared, built in, and those that outcomes have
    measured = {metric for by_metric in sums.values() for metric in by_metric}
    metrics = metrics_of(stored, measured)
    names = {metric.name for metric in metrics}
    for metric in effects:
        if metric not in names:
            raise InputError("effect", unknown_name("metric", metric, sorted(names)))

    analysis = analyse(
        arms, control, strata_of(stored, units_by_epoch(database, stored.id, until)), metrics, definition.alpha,
        effects, definition.unit,
    )  # fmt: skip
    compared = compare_with_placebos(
        _placebo_pairs(database, stored, until, arms), metrics, definition.alpha, analysis["sample_ratio"]["passed"]
    )
    return {
        **analysis,
        "placebos": compared,
        "until": int(until) if np.isfinite(until) else None,
        "untriggered": untriggered,
    }


def _placebo_pairs(database: Engine, stored: StoredExperiment, until: float, arms: Sequence[Arm]) -> list[PlaceboPair]:
    """The arms that stand beside their placebos, with what either changed."""
    named = placebos(stored.definition.arms)
    if not named:
        return []
    doses = {
        arm: Dose(found.effect, found.tokens, found.unknown)
        for arm, found in arm_effects(database, stored.id, until).items()
    }
    by_name = {arm.name: arm for arm in arms}
    return [
        PlaceboPair(by_name[arm], by_name[placebo], doses.get(arm, Dose()), doses.get(placebo, Dose()))
        for placebo, arm in named.items()
    ]


def metrics_of(stored: StoredExperiment, measured: set[str]) -> list[Metric]:
    """The metrics of an analysis: those declared, the built-in ones, and the others that have outcomes."""
    declared = {
        metric.name: Metric(metric.name, metric.direction, metric.role, metric.margin)
        for metric in stored.definition.metrics
    }
    others = {name: Metric(name, "neither", "information") for name in sorted(measured)}
    rest = {name: metric for name, metric in {**others, **BUILT_IN}.items() if name not in declared}
    return [*declared.values(), *rest.values()]


def strata_of(stored: StoredExperiment, units: Mapping[tuple[int, int], Mapping[str, int]]) -> list[Stratum]:
    """Groups of units within which the arms' counts must be in the ratio of their weights.

    Units are grouped by the epoch in which their arm received their part of the hash space, and by the epoch in which
    they were first seen: among units received together, whether one was seen before does not depend on the arm. An arm
    that was paused missed units that the others saw, so it is left out of the groups that it received before.
    """
    strata = []
    for (received, seen), counts in units.items():
        weights = {}
        for name, arm in stored.epochs[seen].arms.items():
            paused = any(epoch.arms[name].status == "paused" for epoch in stored.epochs[received : seen + 1])
            weight = weight_of(interval for interval in arm.intervals if interval.since == received)
            if weight and not paused:
                weights[name] = weight
        if len(weights) > 1:
            strata.append(Stratum(weights, {arm: counts.get(arm, 0) for arm in weights}))
    return strata


def _settled_until(database: Engine, stored: StoredExperiment, oldest_start: float | None, server: str) -> float:
    """The time before which all requests have ended.

    For this server that is known; for the others it assumes that no request takes longer than their longest one did.
    """
    longest = longest_seconds(database, stored.id, server)
    return min(oldest_start or np.inf, time.time() - longest if longest else np.inf)


def sums_by_metric(by_metric: Mapping[str, UnitSums] | None) -> dict[str, Sums]:
    """The database's sums of an arm, for the analysis."""
    return {
        metric: Sums(sums.requests, sums.sums, sums.units, sums.epochs) for metric, sums in (by_metric or {}).items()
    }


def effects_of(query: Sequence[str]) -> dict[str, float]:
    """The effects of a query, each `METRIC:SIZE`. Raises InputError."""
    effects = {}
    for item in query:
        metric, _, size = item.rpartition(":")
        try:
            effects[metric] = float(size)
        except ValueError:
            effects[metric] = np.nan
        if not metric or not np.isfinite(effects[metric]) or effects[metric] <= 0:
            raise InputError("effect", f"{item!r} is not METRIC:SIZE, as in correct:0.05")
    return effects
