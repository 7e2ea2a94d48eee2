"""`/v1/calibration`: the served model's fork threshold, and what it was measured on."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Depends

from forkpoint_server.calibration.profile import EntropyProfile, parse_profile
from forkpoint_server.errors import ApiError
from forkpoint_server.metrics import count_change
from forkpoint_server.service import Service
from forkpoint_server.store.executor import in_thread

from .admin import admin_only
from .bodies import describe_body, parsed_body

logger = logging.getLogger(__name__)


def calibration_router(service: Service, admin_key: str | None) -> APIRouter:
    """The routes, bound to a running server."""
    router = APIRouter(tags=["forkpoint"])

    @router.get("/v1/calibration")
    async def show_calibration() -> dict[str, Any]:
        """The fork threshold in use, in nats; and what it was measured on, or the warning that it was not measured."""
        return service.threshold.to_dict()

    @router.put(
        "/v1/calibration",
        dependencies=[Depends(admin_only(admin_key))],
        openapi_extra=describe_body("put /v1/calibration", EntropyProfile),
    )
    async def store_calibration(
        profile: Annotated[EntropyProfile, Depends(parsed_body(parse_profile))],
    ) -> dict[str, Any]:
        """Store a calibration of the served model and use it from now on, and at every later start."""
        if running := service.experiments.running:
            raise ApiError(
                HTTPStatus.CONFLICT,
                f"an experiment runs ({', '.join(running)}): another threshold may change what its arms do; "
                "pause it first",
                "fork_threshold",
            )
        await in_thread(service.threshold.write, profile)
        count_change("calibration", "changed")
        service.recalibrate()
        logger.info(
            "the fork threshold is %.4g nats from now on, by a calibration of %s",
            profile.fork_threshold,
            profile.created,
        )
        return service.threshold.to_dict()

    return router
