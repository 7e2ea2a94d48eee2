"""An experiment as it is stored, and what a change makes of it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from forkpoint_policies.spec import InputError
from forkpoint_server.errors import ApiError
from forkpoint_server.store.experiments import Stored
from forkpoint_server.store.outcomes import Outcome

from .assignment import Space, lay_out, raised
from .definition import BUILT_IN_METRICS, Change, Definition, ReadArm, is_metric_name
from .live import space_of

MAX_OUTCOMES = 10_000
MAX_REQUEST_ID_LENGTH = 256


def definition_of(definition: Definition, arms: Sequence[ReadArm]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What never changes of an experiment, and its arms in the first epoch. Raises InputError for weights that do not add up."""
    try:
        space = lay_out({arm.name: arm.weight for arm in definition.arms})
    except ValueError as error:
        raise InputError("arms", str(error)) from None
    kept = definition.model_dump(mode="json", exclude={"name", "arms", "status", "control"})
    first = _epoch(space, {arm.name: arm.status for arm in definition.arms})
    return {
        **kept,
        "control": definition.control or definition.arms[0].name,
        "arms": [_arm(arm) for arm in arms],
    }, first


def _arm(arm: ReadArm) -> dict[str, Any]:
    policy = arm.labeled.policy if arm.labeled is not None else None
    return {
        "name": arm.definition.name,
        "policy": arm.definition.policy,
        "shadow": policy is not None and policy.shadow,
        "digest": None if policy is None else policy.digest,
        "label": None if arm.labeled is None else arm.labeled.label,
        "definition": None if policy is None else policy.model_dump(mode="json", exclude_unset=True),
    }


def next_epoch(stored: Stored, change: Change) -> tuple[str, Mapping[str, Any] | None]:
    """The status after a change and, where arms or weights change, the arms of a new epoch. Raises InputError or ApiError."""
    if stored.status == "stopped":
        raise ApiError(
            HTTPStatus.CONFLICT, f"{stored.name!r} is stopped, which is for good; define another experiment", "status"
        )
    statuses = {name: arm["status"] for name, arm in stored.now.arms.items()}
    space = space_of(stored)
    for number, arm in enumerate(change.arms):
        if arm.name not in statuses:
            raise InputError(f"arms[{number}].name", f"there is no arm {arm.name!r}; there are {', '.join(statuses)}")
        if arm.status is not None:
            statuses[arm.name] = arm.status
        if arm.weight is not None:
            try:
                space = raised(space, {arm.name: arm.weight}, stored.now.number + 1)
            except ValueError as error:
                raise InputError(f"arms[{number}].weight", str(error)) from None
    arms = _epoch(space, statuses)
    return change.status or stored.status, None if arms == stored.now.arms else arms


def _epoch(space: Space, statuses: Mapping[str, str]) -> dict[str, Any]:
    return {
        name: {"status": statuses[name], "intervals": [[one.low, one.high, one.since] for one in intervals]}
        for name, intervals in space.items()
    }


def read_outcomes(body: Any) -> list[Outcome]:
    """Outcomes as they are posted, one object or a list. Raises InputError with the path of what is wrong."""
    listed = isinstance(body, list)
    found: list[Outcome] = []
    for number, one in enumerate(body if listed else [body]):
        path = f"[{number}]" if listed else ""
        if not isinstance(one, dict):
            raise InputError(path or "body", "must be an object with `request_id` and `metrics`")
        for key in one:
            if key not in ("request_id", "metrics"):
                raise InputError(f"{path}.{key}".lstrip("."), "is not a field here; there are request_id and metrics")
        request_id, metrics = one.get("request_id"), one.get("metrics")
        if not isinstance(request_id, str) or not _is_id(request_id):
            raise InputError(f"{path}.request_id".lstrip("."), "must be the `id` of a response")
        if not isinstance(metrics, dict) or not metrics:
            raise InputError(
                f"{path}.metrics".lstrip("."), 'must be an object of numbers by name, as in {"correct": 1}'
            )
        found += [Outcome(request_id, name, _number(name, value, path)) for name, value in metrics.items()]
    if len(found) > MAX_OUTCOMES:
        raise InputError("body", f"holds {len(found)} numbers; at most {MAX_OUTCOMES} at once")
    return found


def _is_id(text: str) -> bool:
    """Whether a database can be asked for it: PostgreSQL refuses what is no UTF-8, and NUL."""
    return 0 < len(text) <= MAX_REQUEST_ID_LENGTH and not any(
        one == "\0" or "\ud800" <= one <= "\udfff" for one in text
    )


def _number(name: str, value: Any, path: str) -> float:
    field = f"{path}.metrics.{name}".lstrip(".")
    if not is_metric_name(name):
        raise InputError(
            field, "is no name of a metric: a letter, then letters, digits, '.', '_' or '-', at most 64 in all"
        )
    if name in BUILT_IN_METRICS:
        raise InputError(field, "is measured by the server; give yours another name")
    try:
        number = float(value) if isinstance(value, int | float) else math.nan  # true and false are 1 and 0
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise InputError(field, f"must be a finite number, not {value!r}")
    return number
