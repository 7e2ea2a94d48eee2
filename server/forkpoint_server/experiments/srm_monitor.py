"""Exports the SRM test (sample ratio mismatch) of each running experiment to Prometheus, in the background."""

from __future__ import annotations

import asyncio
import logging
import math
import time

from sqlalchemy import Engine

from forkpoint_server import metrics
from forkpoint_server.store.executor import UnavailableError, in_thread
from forkpoint_server.store.recorder import SERVER

from .report import srm_p_value
from .service import Experiments

logger = logging.getLogger(__name__)

INTERVAL_SECONDS = 15.0
MAX_DUTY = 0.05
"""The share of the time that the tests may take: where the database is slow, they are rarer."""


async def monitor_srm(database: Engine, experiments: Experiments) -> None:
    """Test the running experiments at intervals, until cancelled."""
    exported: set[str] = set()
    while True:
        started_at = time.monotonic()
        try:
            exported = await export_srm(database, experiments, exported)
        except (UnavailableError, OSError):
            pass  # `Experiments` already warns that the database does not answer
        except Exception:  # one failure must not end the monitoring
            logger.exception("the sample ratios could not be tested")
        await asyncio.sleep(max(INTERVAL_SECONDS, (time.monotonic() - started_at) / MAX_DUTY))


async def export_srm(database: Engine, experiments: Experiments, exported: set[str]) -> set[str]:
    """Export the p-values of the running experiments once. `exported`: the names of last time. Returns those of now."""
    running = [stored for name in experiments.running if (stored := experiments.stored(name)) is not None]
    for name in exported - {stored.name for stored in running}:
        # With several processes, prometheus_client keeps removed labels in its files: NaN hides the last value.
        metrics.SAMPLE_RATIO.labels(metrics.served_model(), name).set(math.nan)
        metrics.SAMPLE_RATIO.remove(metrics.served_model(), name)
    for stored in running:
        p_value = await in_thread(srm_p_value, database, stored, experiments.oldest_start(stored.name), SERVER)
        metrics.SAMPLE_RATIO.labels(metrics.served_model(), stored.name).set(p_value)
    return {stored.name for stored in running}
