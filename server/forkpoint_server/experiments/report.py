"""What is shown of an experiment: its definition as it stands, per-arm figures, and the analysis."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from sqlalchemy import Engine

from forkpoint_policies.spec import InputError
from forkpoint_server.experiments.analysis.analyse import Arm, Epoch, Metric, Sums, analyse
from forkpoint_server.experiments.analysis.srm import sample_ratio
from forkpoint_server.store.aggregates import UnitSums, counted, longest_seconds, unit_sums, units_by_epoch
from forkpoint_server.store.experiments import Stored

from .assignment import Interval, weight_of
from .live import Live

BUILT_IN = {
    "tokens": Metric("tokens", "lower", "information"),
    "reasoning_tokens": Metric("reasoning_tokens", "neither", "information"),
    "latency_seconds": Metric("latency_seconds", "lower", "guardrail"),
    "error": Metric("error", "lower", "guardrail"),
    "truncated": Metric("truncated", "lower", "guardrail"),
    "mean_entropy": Metric("mean_entropy", "neither", "information"),
}
"""What is measured of every request, with the role that it has unless the definition gives it another one."""


def described(stored: Stored, problem: str | None = None) -> dict[str, Any]:
    """An experiment as the API shows it; `problem`: why it does not run on this server."""
    shown = {key: value for key, value in stored.definition.items() if key != "arms"}
    arms = []
    for arm in stored.definition["arms"]:
        now = stored.now.arms[arm["name"]]
        kept = {key: arm[key] for key in ("name", "policy", "digest", "shadow")}
        arms.append({**kept, "weight": arm_weight(stored, arm["name"]), "status": now["status"]})
    told = {
        "object": "experiment", "name": stored.name, **shown, "arms": arms, "status": stored.status, "created": int(stored.created),
        "epochs": [{"number": epoch.number, "begun": int(epoch.begun), "arms": dict(epoch.arms)} for epoch in stored.epochs],
    }  # fmt: skip
    return told if problem is None else {**told, "problem": problem}


def arm_weight(stored: Stored, arm: str) -> float:
    """The share of all units that an arm owns."""
    return weight_of(Interval(*interval) for interval in stored.now.arms[arm]["intervals"])


def figures(database: Engine, stored: Stored) -> list[dict[str, Any]]:
    """Per arm how many requests and units there are, and the mean of each metric over requests."""
    found = counted(database, stored.id)
    told = []
    for arm in stored.definition["arms"]:
        here = found.get(arm["name"])
        means = {} if here is None else here.means
        told.append(
            {
                "arm": arm["name"],
                "requests": 0 if here is None else here.requests,
                "units": 0 if here is None else here.units,
                "metrics": {name: {"requests": count, "mean": mean} for name, (count, mean) in sorted(means.items())},
            }
        )
    return told


def analysed(
    database: Engine, stored: Stored, live: Live | None, oldest: float | None, server: str, effects: Mapping[str, float]
) -> dict[str, Any]:
    """The analysis of what has ended. `oldest`: when the oldest request that still runs on this `server` began. Raises InputError.

    Requests that began later are left out until it has ended: arms that take longer would seem to have fewer.
    """
    until = _settled(database, stored, oldest, server)
    sums = unit_sums(database, stored.id, until)
    control: str = stored.definition["control"]
    untriggered = dict(live.untriggered) if live is not None else {}
    takes_turns = live is None or len(live.by_name[control].watches) > 1
    arms = []
    for number, arm in enumerate(stored.definition["arms"]):
        name, triggered = arm["name"], dict[str, Mapping[str, UnitSums]]()
        if name != control and arm["definition"] is not None and name not in untriggered:
            triggered = dict(unit_sums(database, stored.id, until, (name, control), triggered=number))
        watched = (
            unit_sums(database, stored.id, until, (control,), watched=number) if triggered and takes_turns else None
        )
        arms.append(
            Arm(
                name, _sums(sums.get(name)), _sums(triggered.get(name)), _sums(triggered.get(control)),
                None if watched is None else _sums(watched.get(control)),
            )
        )  # fmt: skip
    known = {metric for by_metric in sums.values() for metric in by_metric}
    named = {*known, *BUILT_IN, *(one["name"] for one in stored.definition["metrics"])}
    for metric in effects:
        if metric not in named:
            raise InputError("effect", f"there is no metric {metric!r}; there are {', '.join(sorted(named))}")
    epochs = strata(stored, units_by_epoch(database, stored.id, until))
    found = analyse(
        arms, control, epochs, metrics_of(stored, known), stored.definition["alpha"], effects, stored.definition["unit"]
    )
    return {**found, "until": int(until) if np.isfinite(until) else None, "untriggered": untriggered}


def metrics_of(stored: Stored, known: set[str]) -> list[Metric]:
    """The metrics of an analysis: as declared, those of every request, and what outcomes brought beside these."""
    declared = {one["name"]: Metric(**one) for one in stored.definition["metrics"]}
    others = {name: Metric(name, "neither", "information") for name in sorted(known)}
    return list(
        {**declared, **{name: one for name, one in {**others, **BUILT_IN}.items() if name not in declared}}.values()
    )


def strata(stored: Stored, units: Mapping[tuple[int, int], Mapping[str, int]]) -> list[Epoch]:
    """Periods in which the arms' units must come in the ratio of their weights.

    Units are told apart by the epoch in which their part of the hash space was given to their arm, and by the one in which they
    were first seen: of those given together, what was seen before does not depend on the arm. An arm that was paused missed units
    that the others saw: of what it had until then it is left out.
    """
    found = []
    for (given, seen), counts in units.items():
        weights = {}
        for arm, state in stored.epochs[seen].arms.items():
            paused = any(epoch.arms[arm]["status"] == "paused" for epoch in stored.epochs[given : seen + 1])
            weight = weight_of(Interval(*one) for one in state["intervals"] if one[2] == given)
            if weight and not paused:
                weights[arm] = weight
        if len(weights) > 1:
            found.append(Epoch(weights, {arm: counts.get(arm, 0) for arm in weights}))
    return found


def ratio_of(database: Engine, stored: Stored, oldest: float | None, server: str) -> float:
    """The p-value of the test that the analysis makes of how many units came to each arm."""
    until = _settled(database, stored, oldest, server)
    arms = [arm["name"] for arm in stored.definition["arms"]]
    p_value: float = sample_ratio(arms, strata(stored, units_by_epoch(database, stored.id, until)))["p_value"]
    return p_value


def _settled(database: Engine, stored: Stored, oldest: float | None, server: str) -> float:
    """Until when all requests have ended: those of this server, and those of others if they take as long as they did."""
    longest = longest_seconds(database, stored.id, server)
    return min(oldest or np.inf, time.time() - longest if longest else np.inf)


def _sums(by_metric: Mapping[str, UnitSums] | None) -> dict[str, Sums]:
    return {metric: Sums(one.requests, one.sums, one.units, one.epochs) for metric, one in (by_metric or {}).items()}


def effects_of(asked: Sequence[str]) -> dict[str, float]:
    """`METRIC:SIZE` of a query as effects. Raises InputError."""
    found = {}
    for one in asked:
        metric, _, size = one.rpartition(":")
        try:
            found[metric] = float(size)
        except ValueError:
            found[metric] = np.nan
        if not metric or not np.isfinite(found[metric]) or found[metric] <= 0:
            raise InputError("effect", f"{one!r} is not METRIC:SIZE, as in correct:0.05")
    return found
