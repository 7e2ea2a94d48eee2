"""Exports the analysis of each running experiment to Prometheus, in the background: sample ratio and estimates."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Engine

from forkpoint_server import metrics
from forkpoint_server.store.executor import UnavailableError, in_thread
from forkpoint_server.store.recorder import SERVER

from .report import analyse_experiment
from .service import Experiments

logger = logging.getLogger(__name__)

INTERVAL_SECONDS = 15.0
MAX_DUTY = 0.05
"""The share of the time that the analyses may take: where the database is slow, they are rarer."""


async def monitor_analyses(database: Engine, experiments: Experiments) -> None:
    """Analyse the running experiments at intervals, until cancelled."""
    exported: set[str] = set()
    while True:
        started_at = time.monotonic()
        try:
            exported = await export_analyses(database, experiments, exported)
        except (UnavailableError, OSError):
            pass  # `Experiments` already warns that the database does not answer
        except Exception:  # one failure must not end the monitoring
            logger.exception("the running experiments could not be analysed")
        await asyncio.sleep(max(INTERVAL_SECONDS, (time.monotonic() - started_at) / MAX_DUTY))


async def export_analyses(database: Engine, experiments: Experiments, exported: set[str]) -> set[str]:
    """Export the analyses of the running experiments once. `exported`: the names of last time. Returns those of now."""
    running = [stored for name in experiments.running if (stored := experiments.stored(name)) is not None]
    for name in exported - {stored.name for stored in running}:
        metrics.remove(metrics.SAMPLE_RATIO, metrics.served_model(), name)
    for stored in running:
        started_at = experiments.oldest_start(stored.name)
        analysis = await in_thread(analyse_experiment, database, stored, None, started_at, SERVER, {})
        metrics.SAMPLE_RATIO.labels(metrics.served_model(), stored.name).set(analysis["sample_ratio"]["p_value"])
        _export_estimates(stored.name, analysis)
    return {stored.name for stored in running}


def _export_estimates(experiment: str, analysis: Mapping[str, Any]) -> None:
    """Export each arm's means and differences. `metrics.remove_series` removes them when the experiment stops."""
    for metric, described in analysis["metrics"].items():
        for arm, figures in described["arms"].items():
            found = {"mean": (figures["mean"], figures["interval"])}
            if (difference := figures.get("difference")) is not None:
                found["difference"] = (difference["estimate"], difference["interval"])
            for of, (estimate, interval) in found.items():
                low, high = interval or (None, None)
                for bound, value in (("estimate", estimate), ("low", low), ("high", high)):
                    labels = (metrics.served_model(), experiment, arm, metric, of, bound)
                    metrics.ESTIMATE.labels(*labels).set(math.nan if value is None else value)
