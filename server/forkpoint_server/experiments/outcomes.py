"""Outcomes: values of metrics that become known after a request. They are acknowledged only when they are committed."""

from __future__ import annotations

import math
from asyncio import sleep
from collections.abc import Sequence
from http import HTTPStatus
from time import monotonic
from typing import Any

from sqlalchemy import Engine

from forkpoint_policies.spec import InputError
from forkpoint_server import metrics
from forkpoint_server.errors import ApiError
from forkpoint_server.store.assignments import can_be_stored
from forkpoint_server.store.built_in_metrics import BUILT_IN_NAMES
from forkpoint_server.store.executor import in_thread
from forkpoint_server.store.experiments import StoredExperiment
from forkpoint_server.store.outcomes import (
    AddedOutcomes,
    ContradictionError,
    Outcome,
    TooManyMetricsError,
    UnknownRequestError,
    add_outcomes,
)
from forkpoint_server.store.tables import MAX_OUTCOME

from .definition import MAX_METRICS, is_metric_name

MAX_OUTCOMES = 10_000
WAIT_SECONDS = 2.0
"""How long to wait for an unknown request: it may be on its way to the database, from this server or another one."""
FIRST_RETRY_SECONDS = 0.02


async def record_outcomes(
    database: Engine, retention_days: int, stored: StoredExperiment, outcomes: Sequence[Outcome]
) -> AddedOutcomes:
    """Store outcomes, all or none. Raises ApiError or InputError."""
    deadline, pause = monotonic() + WAIT_SECONDS, FIRST_RETRY_SECONDS
    while True:
        try:
            added = await in_thread(add_outcomes, database, stored.id, outcomes, MAX_METRICS)
            break
        except UnknownRequestError as error:
            if monotonic() >= deadline:
                raise ApiError(
                    HTTPStatus.NOT_FOUND,
                    f"no request {error.request_id!r} of {stored.name!r} is recorded: it was in another experiment or "
                    "in none, its response has not ended, or the experiment was stopped more than "
                    f"{retention_days} days ago; nothing of this was stored",
                    "request_id",
                ) from None
            await sleep(pause)  # holds no thread of the store meanwhile
            pause *= 2
        except ContradictionError as error:
            raise ApiError(HTTPStatus.CONFLICT, f"{error}; nothing of this was stored", "metrics") from None
        except TooManyMetricsError:
            raise InputError("metrics", f"would be more than {MAX_METRICS} different ones in {stored.name!r}") from None
    for arm, outcome in added.new if stored.status != "stopped" else ():  # whose series are gone
        metrics.OUTCOME.labels(metrics.served_model(), stored.name, arm, outcome.metric).observe(outcome.value)
    return added


def read_outcomes(body: Any) -> list[Outcome]:
    """Posted outcomes, one object or a list. Raises InputError with the path of what is wrong."""
    is_list = isinstance(body, list)
    outcomes: list[Outcome] = []
    for number, posted in enumerate(body if is_list else [body]):
        path = f"[{number}]" if is_list else ""
        if not isinstance(posted, dict):
            raise InputError(path or "body", "must be an object with `request_id` and `metrics`")
        for key in posted:
            if key not in ("request_id", "metrics"):
                raise InputError(f"{path}.{key}".lstrip("."), "is not a field here; there are request_id and metrics")
        request_id, values = posted.get("request_id"), posted.get("metrics")
        if not isinstance(request_id, str) or not can_be_stored(request_id):
            raise InputError(
                f"{path}.request_id".lstrip("."), "must be the `id` of a response, or the X-Request-Id of its request"
            )
        if not isinstance(values, dict) or not values:
            raise InputError(
                f"{path}.metrics".lstrip("."), 'must be an object of numbers by name, as in {"correct": 1}'
            )
        outcomes += [Outcome(request_id, name, _number(name, value, path)) for name, value in values.items()]
    if len(outcomes) > MAX_OUTCOMES:
        raise InputError("body", f"holds {len(outcomes)} numbers; at most {MAX_OUTCOMES} at once")
    return outcomes


def _number(name: str, value: Any, path: str) -> float:
    """The value of one metric. Raises InputError for an invalid name, and for a value that is not a finite number."""
    field = f"{path}.metrics.{name}".lstrip(".")
    if not is_metric_name(name):
        raise InputError(
            field,
            "is not a metric's name, which is a letter, then letters, digits, '.', '_' or '-', at most 64 in all",
        )
    if name in BUILT_IN_NAMES:
        raise InputError(field, "is measured by the server; give yours another name")
    try:
        number = float(value) if isinstance(value, int | float) else math.nan  # true and false are 1 and 0
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise InputError(field, f"must be a finite number, not {str(value)[:50]!r}")
    if abs(number) > MAX_OUTCOME:
        raise InputError(field, f"must be between -{MAX_OUTCOME:g} and {MAX_OUTCOME:g}, not {number:g}")
    return number
