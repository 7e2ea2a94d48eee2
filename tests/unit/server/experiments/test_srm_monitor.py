"""The SRM test in Prometheus: the p-value of the analysis, for as long as an experiment runs."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import suppress

import pytest
from sqlalchemy import Engine

from forkpoint_server import metrics
from forkpoint_server.experiments import srm_monitor
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
    assert await srm_monitor.export_srm(database, experiments, set()) == set(exported()) == {"even", "skewed"}
    for stored in (even, skewed):
        assert (
            exported()[stored.name]
            == analyse_experiment(database, stored, None, None, SERVER, {})["sample_ratio"]["p_value"]
        )
    assert exported()["even"] > 0.5
    assert exported()["skewed"] < 0.01
    await apply(experiments, even, changed(skewed, status="stopped"))
    assert await srm_monitor.export_srm(database, experiments, set(exported())) == set(exported()) == {"even"}


async def test_monitoring_continues_after_an_error(database: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(srm_monitor, "INTERVAL_SECONDS", 0.01)
    stored = store(database, name="later")
    experiments = await running(database, stored)
    failing = iter([OSError("no database"), ValueError("no sense")])

    def fail(*args: object) -> float:
        error = next(failing, None)
        if error is not None:
            raise error
        return 0.5

    monkeypatch.setattr(srm_monitor, "srm_p_value", fail)
    looking = asyncio.create_task(srm_monitor.monitor_srm(database, experiments))
    try:
        assert await until({"later"}) == {"later": 0.5}
    finally:
        looking.cancel()
        with suppress(asyncio.CancelledError):
            await looking
