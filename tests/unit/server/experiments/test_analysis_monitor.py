"""Analyses in Prometheus: the sample ratio's p-value and the estimates, for as long as an experiment runs."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from sqlalchemy import Engine

from forkpoint_server import metrics
from forkpoint_server.experiments import analysis_monitor
from forkpoint_server.experiments.report import analyse_experiment
from forkpoint_server.experiments.service import Experiments
from forkpoint_server.store.assignments import add_assignments
from forkpoint_server.store.experiments import StoredExperiment
from forkpoint_server.store.recorder import SERVER
from tests.unit.server.store.rows import row

from .factories import REGISTRY, apply, changed, compile_one, store


def exported() -> dict[str, float]:
    samples = next(iter(metrics.SAMPLE_RATIO.collect())).samples
    return {sample.labels["experiment"]: sample.value for sample in samples}


async def until(experiments: set[str]) -> dict[str, float]:
    for _ in range(3000):
        if set(exported()) == experiments:
            return exported()
        await asyncio.sleep(0.01)
    raise TimeoutError(f"{exported()} should become {experiments}")


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    yield
    metrics.SAMPLE_RATIO.clear()
    metrics.ESTIMATE.clear()


async def running(database: Engine, *stored: StoredExperiment) -> Experiments:
    experiments = Experiments(database, REGISTRY, compile_one, 16)
    await apply(experiments, *stored)
    return experiments


async def test_the_sample_ratio_is_exported_while_an_experiment_runs(database: Engine) -> None:
    even, skewed = store(database, name="even"), store(database, name="skewed", salt="t")
    for stored, shares in ((even, (60, 60)), (skewed, (90, 30))):
        for arm, units in zip(("control", "calm"), shares, strict=True):
            rows = [
                row(stored.id, f"{stored.name}-{arm}-{unit}", arm, unit=unit, server=SERVER) for unit in range(units)
            ]
            add_assignments(database, rows)
    experiments = await running(database, even, skewed)
    assert await analysis_monitor.export_analyses(database, experiments, set()) == set(exported()) == {"even", "skewed"}
    for stored in (even, skewed):
        assert (
            exported()[stored.name]
            == analyse_experiment(database, stored, None, None, SERVER, {})["sample_ratio"]["p_value"]
        )
    assert exported()["even"] > 0.5
    assert exported()["skewed"] < 0.01
    await apply(experiments, even, changed(skewed, status="stopped"))
    assert await analysis_monitor.export_analyses(database, experiments, set(exported())) == set(exported()) == {"even"}


def estimates(of: str, metric: str) -> dict[str, list[float]]:
    """By arm: the estimate and its interval."""
    found: dict[str, dict[str, float]] = {}
    for sample in next(iter(metrics.ESTIMATE.collect())).samples:
        if (sample.labels["of"], sample.labels["metric"]) == (of, metric):
            found.setdefault(sample.labels["arm"], {})[sample.labels["bound"]] = sample.value
    return {arm: [bounds[bound] for bound in ("estimate", "low", "high")] for arm, bounds in found.items()}


async def test_estimates_are_those_of_the_analysis(database: Engine) -> None:
    stored = store(database, name="even")
    for arm, tokens in (("control", 100), ("calm", 80)):
        rows = [
            row(stored.id, f"{arm}-{unit}", arm, unit=unit, server=SERVER, tokens=tokens + unit % 7)
            for unit in range(120)
        ]
        add_assignments(database, rows)
    experiments = await running(database, stored)
    await analysis_monitor.export_analyses(database, experiments, set())
    analysed = analyse_experiment(database, stored, None, None, SERVER, {})["metrics"]["tokens"]["arms"]
    means, differences = estimates("mean", "tokens"), estimates("difference", "tokens")
    for arm, figures in analysed.items():
        assert means[arm] == [figures["mean"], *figures["interval"]]
    assert set(differences) == {"calm"}
    difference = analysed["calm"]["difference"]
    assert differences["calm"] == [difference["estimate"], *difference["interval"]]
    assert differences["calm"][0] == pytest.approx(-20)
    assert differences["calm"][2] < 0
    metrics.remove_series(set(), {}, set())
    assert estimates("mean", "tokens") == {}, "a stopped experiment's are removed"


async def test_what_is_not_certain_yet_is_nan(database: Engine) -> None:
    stored = store(database, name="even")
    add_assignments(database, [row(stored.id, "one", "control", unit=1, server=SERVER)])
    await analysis_monitor.export_analyses(database, await running(database, stored), set())
    assert all(math.isnan(value) for value in estimates("difference", "tokens")["calm"])


async def test_monitoring_continues_after_an_error(database: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(analysis_monitor, "INTERVAL_SECONDS", 0.01)
    stored = store(database, name="later")
    experiments = await running(database, stored)
    failing = iter([OSError("no database"), ValueError("no sense")])

    def fail(*args: object) -> dict[str, Any]:
        error = next(failing, None)
        if error is not None:
            raise error
        return {"sample_ratio": {"p_value": 0.5}, "metrics": {}}

    monkeypatch.setattr(analysis_monitor, "analyse_experiment", fail)
    looking = asyncio.create_task(analysis_monitor.monitor_analyses(database, experiments))
    try:
        assert await until({"later"}) == {"later": 0.5}
    finally:
        looking.cancel()
        with suppress(asyncio.CancelledError):
            await looking
