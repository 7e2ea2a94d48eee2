"""Tells Prometheus of each running experiment whether its arms have as many units as they should. No request waits for it."""

from __future__ import annotations

import asyncio
import logging
import math
import time

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from forkpoint_server import metrics
from forkpoint_server.store.executor import in_thread
from forkpoint_server.store.recorder import SERVER

from .report import ratio_of
from .service import Experiments

logger = logging.getLogger(__name__)

LOOK_SECONDS = 15.0
MAX_SHARE = 0.05
"""Of the time, spent in looking: where the database takes long over it, looks are rarer."""


async def watch_ratios(database: Engine, experiments: Experiments) -> None:
    """Look at the running experiments now and then, until cancelled."""
    told: set[str] = set()
    while True:
        began = time.monotonic()
        try:
            told = await look(database, experiments, told)
        except (SQLAlchemyError, OSError):
            pass  # who polls the definitions says that the database does not answer
        except Exception:  # whatever is wrong with one look, there is a next one
            logger.exception("the sample ratios could not be looked at")
        await asyncio.sleep(max(LOOK_SECONDS, (time.monotonic() - began) / MAX_SHARE))


async def look(database: Engine, experiments: Experiments, told: set[str]) -> set[str]:
    """Look once, and give the experiments that are told of; `told` are those of before."""
    running = [stored for name in experiments.running if (stored := experiments.stored(name)) is not None]
    for name in told - {stored.name for stored in running}:
        metrics.SAMPLE_RATIO.labels(name).set(
            math.nan
        )  # where several processes share files, what is removed stays in them
        metrics.SAMPLE_RATIO.remove(name)
    for stored in running:
        p_value = await in_thread(ratio_of, database, stored, experiments.oldest(stored.name), SERVER)
        metrics.SAMPLE_RATIO.labels(stored.name).set(p_value)
    return {stored.name for stored in running}
