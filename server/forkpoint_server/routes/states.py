"""`/v1/states`: the hidden states of a stored answer, for fitting readouts and vectors."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.responses import Response

from forkpoint_server.http.paths import STATES
from forkpoint_server.service import Service
from forkpoint_server.state_reading.read import read_states
from forkpoint_server.state_reading.request import StatesRequest, parse_request

from .admin import admin_only
from .bodies import describe_body, parsed_body
from .vectors import BINARY


def states_router(service: Service, admin_key: str | None) -> APIRouter:
    """The routes, bound to a running server."""
    router = APIRouter(tags=["forkpoint"])

    @router.post(
        STATES,
        dependencies=[Depends(admin_only(admin_key))],
        openapi_extra=describe_body("post /v1/states", StatesRequest),
    )
    async def states_of(
        request: Annotated[StatesRequest, Depends(parsed_body(parse_request))], raw_request: Request
    ) -> Response:
        """The hidden states of an answer whose trace is stored, at the positions where one of the conditions in `when`
        holds: a safetensors file. The model writes the answer again for it."""
        state = raw_request.app.state
        adapters = state.openai_serving_models.lora_requests
        return Response(await read_states(service, state.engine_client, request, adapters), media_type=BINARY)

    return router
