"""`/v1/experiments`: define, show, change and delete experiments, and post outcomes."""

from __future__ import annotations

import asyncio
from functools import partial
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request

from forkpoint_policies.spec import InputError, is_name
from forkpoint_server.errors import ApiError, not_found
from forkpoint_server.experiments.definition import METRIC_NAME, Change, Definition, parse_body, resolve_arms
from forkpoint_server.experiments.lifecycle import definition_to_store, first_epoch, next_epoch
from forkpoint_server.experiments.outcomes import read_outcomes, record_outcomes
from forkpoint_server.experiments.report import analyse_experiment, arm_figures, effects_of, experiment_to_dict
from forkpoint_server.experiments.response_models import (
    DeletedResponse,
    ExperimentResponse,
    ExperimentsResponse,
    OutcomesResponse,
    ReportResponse,
    TimelineResponse,
)
from forkpoint_server.experiments.timeline import MAX_POINTS, timeline
from forkpoint_server.metrics import count_change
from forkpoint_server.policies.compiled import LabeledPolicy
from forkpoint_server.policies.resolve import read_policy_field
from forkpoint_server.service import Service
from forkpoint_server.store.executor import in_thread
from forkpoint_server.store.experiments import (
    StoredExperiment,
    add_experiment,
    change_experiment,
    read_definitions,
    remove_experiment,
)
from forkpoint_server.store.outcomes import Outcome
from forkpoint_server.store.recorder import SERVER
from forkpoint_server.store.tables import MAX_OUTCOME, MAX_RESPONSE_ID_LENGTH

from .admin import admin_only, is_admin
from .bodies import describe_body, describe_response, parsed_body

MAX_EXPERIMENTS = 128
FLUSH_SECONDS = 2.0
STATUS_CHANGES = {"running": "started", "paused": "paused", "stopped": "stopped", None: "changed"}
"""What a change is counted as, by the status that it asks for; without one it is of arms."""

_OUTCOME = {
    "type": "object",
    "required": ["request_id", "metrics"],
    "additionalProperties": False,
    "properties": {
        "request_id": {"type": "string", "minLength": 1, "maxLength": MAX_RESPONSE_ID_LENGTH},
        "metrics": {
            "type": "object",
            "minProperties": 1,
            "propertyNames": {"pattern": METRIC_NAME.pattern},
            "additionalProperties": {"type": "number", "minimum": -MAX_OUTCOME, "maximum": MAX_OUTCOME},
        },
    },
}
OUTCOMES_SCHEMA = {"anyOf": [_OUTCOME, {"type": "array", "items": _OUTCOME}]}


def experiments_router(service: Service, admin_key: str | None) -> APIRouter:
    """The routes, bound to a running server."""
    router = APIRouter(tags=["forkpoint"])
    guarded = [Depends(admin_only(admin_key))]
    one_report = asyncio.Lock()  # of a large experiment each takes seconds, during which completions are slower

    @router.get("/v1/experiments", **describe_response(ExperimentsResponse))
    async def list_experiments(request: Request) -> dict[str, Any]:
        """All experiments, oldest first, without their figures."""
        found = await in_thread(read_definitions, service.database)
        with_salt = is_admin(request, admin_key)
        data = [_to_dict(service, experiment, with_salt) for experiment in found.experiments]
        return {"object": "list", "data": data}

    @router.post(
        "/v1/experiments",
        status_code=HTTPStatus.CREATED,
        dependencies=guarded,
        openapi_extra=describe_body("post /v1/experiments", Definition),
        **describe_response(ExperimentResponse, HTTPStatus.CREATED),
    )
    async def create_experiment(
        definition: Annotated[Definition, Depends(parsed_body(partial(parse_body, Definition)))],
    ) -> dict[str, Any]:
        """Define an experiment. Its arms' policies are stored in full: redefining a name does not affect them."""
        arms = resolve_arms(definition, lambda policy: read_policy_field(policy, service.registry))
        epoch = first_epoch(definition)
        for number, arm in enumerate(arms):
            if arm.labeled is not None:
                await _compile(service, arm.labeled, number)
        try:
            made = await in_thread(
                add_experiment,
                service.database,
                definition.name,
                definition_to_store(definition, arms),
                definition.status,
                epoch,
                MAX_EXPERIMENTS,
            )
        except KeyError:
            raise ApiError(
                HTTPStatus.CONFLICT,
                f"there is an experiment {definition.name!r} already; change or delete that one",
                "name",
            ) from None
        except OverflowError:
            raise ApiError(
                HTTPStatus.CONFLICT, f"there are {MAX_EXPERIMENTS} experiments; delete one", "name"
            ) from None
        count_change("experiment", "created")
        await service.experiments.follow()
        await service.experiments.compiled(made.id)
        return _to_dict(service, made)

    @router.get("/v1/experiments/{name}/timeline", **describe_response(TimelineResponse))
    async def show_timeline(
        name: str, metric: str, points: int = Query(default=20, ge=1, le=MAX_POINTS)
    ) -> dict[str, Any]:
        """How the intervals of a metric narrowed: each arm's difference from the control at `points` times."""
        stored = await _stored(service, name)
        async with one_report:
            return await in_thread(timeline, service.database, stored, metric, points)

    @router.get("/v1/experiments/{name:path}", **describe_response(ReportResponse))
    async def show_experiment(
        request: Request,
        name: str,
        effect: list[str] = Query(default=[]),  # noqa: B008
    ) -> dict[str, Any]:
        """One experiment with its figures and analysis. `effect=METRIC:SIZE`: how many more requests would show it?"""
        effects = effects_of(effect)
        stored = await _stored(service, name)
        oldest_start = service.experiments.oldest_start(name)  # before the flush: it must not miss one that ends now
        await in_thread(service.recorder.flush, FLUSH_SECONDS)
        async with one_report:
            figures = await in_thread(arm_figures, service.database, stored)
            live = service.experiments.live(stored)
            analysis = await in_thread(
                analyse_experiment, service.database, stored, live, oldest_start, SERVER, effects
            )
        shown = _to_dict(service, stored, is_admin(request, admin_key))
        return {**shown, "figures": figures, "analysis": analysis}

    @router.patch(
        "/v1/experiments/{name:path}",
        dependencies=guarded,
        openapi_extra=describe_body("patch /v1/experiments/{name}", Change),
        **describe_response(ExperimentResponse),
    )
    async def change(
        name: str, requested: Annotated[Change, Depends(parsed_body(partial(parse_body, Change)))]
    ) -> dict[str, Any]:
        """Change the status of an experiment or of arms, or raise weights."""
        _check_name(name)
        try:
            changed = await in_thread(
                change_experiment, service.database, name, lambda stored: next_epoch(stored, requested)
            )
        except KeyError:
            raise _unknown(name) from None
        count_change("experiment", STATUS_CHANGES[requested.status])
        await service.experiments.follow()
        return _to_dict(service, changed)

    @router.delete("/v1/experiments/{name:path}", dependencies=guarded, **describe_response(DeletedResponse))
    async def delete(name: str) -> dict[str, Any]:
        """Delete an experiment that is not running, with everything recorded for it."""
        _check_name(name)

        def check(stored: StoredExperiment) -> None:
            if stored.status == "running":
                raise ApiError(
                    HTTPStatus.CONFLICT, f"{name!r} is running; stop or pause it first, then delete it", "name"
                )

        try:
            await in_thread(remove_experiment, service.database, name, check)
        except KeyError:
            raise _unknown(name) from None
        count_change("experiment", "deleted")
        await service.experiments.follow()
        return {"object": "experiment.deleted", "name": name, "deleted": True}

    @router.post(
        "/v1/experiments/{name:path}/outcomes",
        openapi_extra=describe_body("post /v1/experiments/{name}/outcomes", OUTCOMES_SCHEMA),
        **describe_response(OutcomesResponse),
    )
    async def post_outcomes(
        name: str, outcomes: Annotated[list[Outcome], Depends(parsed_body(read_outcomes))]
    ) -> dict[str, int]:
        """Store outcomes of requests. They are committed when this responds."""
        stored = service.experiments.stored(name) or await _stored(service, name)
        try:
            added = await record_outcomes(service.database, service.config.retention_days, stored, outcomes)
        except ApiError as error:
            if error.status == HTTPStatus.NOT_FOUND and (warnings := service.recorder.warnings()):
                message = f"{warnings[0]}, of which this may be of one; nothing of this was acknowledged, try again"
                raise ApiError(HTTPStatus.SERVICE_UNAVAILABLE, message, error.field) from None
            raise
        return {"stored": len(added.new), "duplicates": added.duplicates}

    return router


async def _compile(service: Service, policy: LabeledPolicy, arm: int) -> None:
    try:
        await service.compiled_policies.get(policy)
    except InputError as error:
        raise InputError(f"arms[{arm}].{error.field}", error.message) from None


def _to_dict(service: Service, stored: StoredExperiment, with_salt: bool = True) -> dict[str, Any]:
    """An experiment for a client. With the salt it could choose units by their arm, so only admins see it."""
    shown = experiment_to_dict(stored, service.experiments.problems.get(stored.name))
    if not with_salt:
        del shown["salt"]
    return shown


async def _stored(service: Service, name: str) -> StoredExperiment:
    found = await in_thread(read_definitions, service.database)
    for experiment in found.experiments:
        if experiment.name == name:
            return experiment
    raise _unknown(name)


def _check_name(name: str) -> None:
    """Raise ApiError (404) for text that is not a name: the database might reject the look-up itself."""
    if not is_name(name):
        raise _unknown(name)


def _unknown(name: str) -> ApiError:
    return not_found(f"there is no experiment {name!r}", "name")
