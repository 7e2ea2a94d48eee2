"""`/v1/experiments`: what is compared on live traffic, what came of it, and the outcomes that are known later."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from fastapi import APIRouter, Depends, Query, Request

from forkpoint_policies.spec import InputError, is_name
from forkpoint_server.errors import ApiError, not_found
from forkpoint_server.experiments.definition import parse_change, parse_definition
from forkpoint_server.experiments.lifecycle import definition_of, next_epoch, read_outcomes
from forkpoint_server.experiments.outcomes import record_outcomes
from forkpoint_server.experiments.report import analysed, described, effects_of, figures
from forkpoint_server.policies.compiled import LabeledPolicy
from forkpoint_server.policies.resolve import read_policy_field
from forkpoint_server.service import Service
from forkpoint_server.store.executor import asking
from forkpoint_server.store.experiments import (
    Stored,
    add_experiment,
    change_experiment,
    read_definitions,
    remove_experiment,
)
from forkpoint_server.store.recorder import SERVER

from .admin import admin_only, json_of

MAX_EXPERIMENTS = 128
FLUSH_SECONDS = 2.0


def experiments_router(service: Service, admin_key: str | None) -> APIRouter:
    """The routes, bound to a running server."""
    router = APIRouter(tags=["forkpoint"])
    guarded = [Depends(admin_only(admin_key))]

    @router.get("/v1/experiments")
    async def list_experiments() -> dict[str, Any]:
        """All experiments, oldest first, without their figures."""
        found = await asking(read_definitions, service.database)
        return {"object": "list", "data": [_shown(service, one) for one in found.experiments]}

    @router.post("/v1/experiments", status_code=HTTPStatus.CREATED, dependencies=guarded)
    async def create_experiment(request: Request) -> dict[str, Any]:
        """Define an experiment. Its arms' policies are compiled now, and kept as they are."""
        definition, arms = parse_definition(
            await json_of(request), lambda policy: read_policy_field(policy, service.registry)
        )
        stored, first = definition_of(definition, arms)
        for number, arm in enumerate(arms):
            if arm.labeled is not None:
                await _compile(service, arm.labeled, number)
        try:
            made = await asking(
                add_experiment, service.database, definition.name, stored, definition.status, first, MAX_EXPERIMENTS
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
        await service.experiments.follow()
        return _shown(service, made)

    @router.get("/v1/experiments/{name}")
    async def show_experiment(name: str, effect: list[str] = Query(default=[])) -> dict[str, Any]:  # noqa: B008
        """One experiment with its figures and its analysis. `effect=METRIC:SIZE` asks how many requests would show it."""
        effects = effects_of(effect)
        stored = await _stored(service, name)
        oldest = service.experiments.oldest(name)
        await asking(service.recorder.flush, FLUSH_SECONDS)
        counts = await asking(figures, service.database, stored)
        live = service.experiments.live(stored)
        analysis = await asking(analysed, service.database, stored, live, oldest, SERVER, effects)
        return {**_shown(service, stored), "figures": counts, "analysis": analysis}

    @router.patch("/v1/experiments/{name}", dependencies=guarded)
    async def change(name: str, request: Request) -> dict[str, Any]:
        """Change the status of an experiment or of arms, or raise weights."""
        wanted = parse_change(await json_of(request))
        _check_name(name)
        try:
            changed = await asking(change_experiment, service.database, name, lambda stored: next_epoch(stored, wanted))
        except KeyError:
            raise _unknown(name) from None
        await service.experiments.follow()
        return _shown(service, changed)

    @router.delete("/v1/experiments/{name}", dependencies=guarded)
    async def delete(name: str) -> dict[str, Any]:
        """Delete an experiment that does not run, with all that was recorded of it."""

        _check_name(name)

        def check(stored: Stored) -> None:
            if stored.status == "running":
                raise ApiError(
                    HTTPStatus.CONFLICT, f"{name!r} is running; stop or pause it first, then delete it", "name"
                )

        try:
            await asking(remove_experiment, service.database, name, check)
        except KeyError:
            raise _unknown(name) from None
        await service.experiments.follow()
        return {"object": "experiment.deleted", "name": name, "deleted": True}

    @router.post("/v1/experiments/{name}/outcomes")
    async def post_outcomes(name: str, request: Request) -> dict[str, int]:
        """Store what became known of requests. When this answers, they are committed."""
        outcomes = read_outcomes(await json_of(request))
        stored = service.experiments.stored(name) or await _stored(service, name)
        try:
            added = await record_outcomes(service.database, service.config.retention_days, stored, outcomes)
        except ApiError as error:
            if error.status == HTTPStatus.NOT_FOUND and (late := service.recorder.warnings()):
                message = f"{late[0]}, of which this may be of one; nothing of this was acknowledged, try again"
                raise ApiError(HTTPStatus.SERVICE_UNAVAILABLE, message, error.field) from None
            raise
        return {"stored": len(added.new), "duplicates": added.duplicates}

    return router


async def _compile(service: Service, policy: LabeledPolicy, arm: int) -> None:
    try:
        await service.compiled_policies.get(policy)
    except InputError as error:
        raise InputError(f"arms[{arm}].{error.field}", error.message) from None


def _shown(service: Service, stored: Stored) -> dict[str, Any]:
    return described(stored, service.experiments.problems.get(stored.name))


async def _stored(service: Service, name: str) -> Stored:
    found = await asking(read_definitions, service.database)
    for one in found.experiments:
        if one.name == name:
            return one
    raise _unknown(name)


def _check_name(name: str) -> None:
    """Raise ApiError (404) for what is no name, and which a database may not even be asked for."""
    if not is_name(name):
        raise _unknown(name)


def _unknown(name: str) -> ApiError:
    return not_found(f"there is no experiment {name!r}", "name")
