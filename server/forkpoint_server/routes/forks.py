"""`/v1/forks`: where a recent request forked."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from ..errors import missing
from ..service import Service


def forks_router(service: Service) -> APIRouter:
    """The routes, bound to a running server."""
    router = APIRouter(tags=["forkpoint"])

    @router.get("/v1/forks/{request_id}")
    async def show_trace(request_id: str) -> Any:
        """The trace of a recent request by its response's id: tokens, entropies, forks, interventions.

        Requests with a policy or with `forks` are kept, the oldest going first; alternatives only where `forks` was asked for.
        """
        kept = service.traces.get(request_id)
        if kept is None:
            message = f"there is no trace of {request_id!r}: it had neither a policy nor `forks`, or is too long ago"
            return missing(message, "request_id")
        return kept.report()

    return router
