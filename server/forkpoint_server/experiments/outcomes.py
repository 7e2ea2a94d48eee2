"""Outcomes: acknowledged when they are committed, and never before."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from http import HTTPStatus

from sqlalchemy import Engine

from forkpoint_policies.spec import InputError
from forkpoint_server import metrics
from forkpoint_server.errors import ApiError
from forkpoint_server.store.executor import asking
from forkpoint_server.store.experiments import Stored
from forkpoint_server.store.outcomes import (
    Added,
    ContradictionError,
    Outcome,
    TooManyMetricsError,
    UnknownRequestError,
    add_outcomes,
)

from .definition import MAX_METRICS

WAIT_SECONDS = 2.0
"""How long a request that is not there is waited for: it may be on its way to the database, here or on another server."""


async def record_outcomes(database: Engine, retention_days: int, stored: Stored, outcomes: Sequence[Outcome]) -> Added:
    """Store outcomes, all or none. Raises ApiError or InputError."""
    added = await _stored_or_refused(database, retention_days, stored, outcomes)
    for arm, outcome in added.new:
        metrics.OUTCOME.labels(stored.name, arm, outcome.metric).observe(outcome.value)
    return added


async def _stored_or_refused(
    database: Engine, retention_days: int, stored: Stored, outcomes: Sequence[Outcome]
) -> Added:
    deadline, pause = time.monotonic() + WAIT_SECONDS, 0.02
    while True:
        try:
            return await asking(add_outcomes, database, stored.id, outcomes, MAX_METRICS)
        except UnknownRequestError as error:
            if time.monotonic() >= deadline:
                raise ApiError(
                    HTTPStatus.NOT_FOUND,
                    f"no request {error.request_id!r} of {stored.name!r} is recorded: it was in another experiment or in none, its "
                    f"response has not ended, or the experiment was stopped more than {retention_days} days ago; nothing of this "
                    "was stored",
                    "request_id",
                ) from None
            await asyncio.sleep(pause)  # holds no thread: others' outcomes, and changes of experiments, need these
            pause *= 2
        except ContradictionError as error:
            raise ApiError(HTTPStatus.CONFLICT, f"{error}; nothing of this was stored", "metrics") from None
        except TooManyMetricsError:
            raise InputError("metrics", f"would be more than {MAX_METRICS} different ones in {stored.name!r}") from None
