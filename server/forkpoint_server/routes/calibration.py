"""`/v1/calibration`: the served model's fork threshold, and what it was measured on."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Request
from forkpoint_policies.spec import PolicyError
from sqlalchemy.exc import DBAPIError

from ..errors import Refused, wrong
from ..profiles import parse_profile
from ..service import Service

logger = logging.getLogger(__name__)


def calibration_router(service: Service, guard: Callable[[Request], Awaitable[None]]) -> APIRouter:
    """The routes, bound to a running server; `guard` is who may change what is stored."""
    router = APIRouter(tags=["forkpoint"])

    @router.get("/v1/calibration")
    async def show_calibration() -> dict[str, Any]:
        """The fork threshold in use, in nats; and what it was measured on, or the warning that it was not measured."""
        return service.threshold.told()

    @router.put("/v1/calibration", dependencies=[Depends(guard)])
    async def store_calibration(body: Annotated[Any, Body()]) -> Any:
        """Store a calibration of the served model and use it from now on, and at every later start."""
        try:
            profile = parse_profile(body)
            await asyncio.to_thread(service.threshold.write, profile)
        except PolicyError as error:
            return wrong(error)
        except DBAPIError as error:
            logger.exception("a calibration could not be stored")
            raise Refused(HTTPStatus.SERVICE_UNAVAILABLE, "the database is away; nothing was stored or changed") from error
        service.recalibrate()
        logger.info("the fork threshold is %.4g nats from now on, by a calibration of %s", profile.fork_threshold, profile.created)
        return service.threshold.told()

    return router
