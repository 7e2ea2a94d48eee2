"""`/replica/…`: what other servers ask this one. Each request is signed with this server's key; none is forwarded."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated

import msgspec
from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response

from forkpoint_policies.spec import InputError
from forkpoint_server.errors import ApiError, not_found
from forkpoint_server.replicas.questions import CREATED_HEADER, POSITION, ROWS, TOKENS, TRACE, read_position
from forkpoint_server.replicas.registry import Replicas
from forkpoint_server.replicas.signature import HEADER, is_signed
from forkpoint_server.requests.listing import Filters
from forkpoint_server.service import Service
from forkpoint_server.state_reading.stored import stored_tokens

from .own_traces import own_page, own_position, own_trace

NOT_HERE = "is not here"


def replica_router(service: Service, replicas: Replicas) -> APIRouter:
    """The routes, bound to a running server."""

    async def check(request: Request) -> None:
        path = request.scope["path"].removeprefix(request.scope.get("root_path", ""))
        query = request.scope["query_string"].decode("latin-1")
        if not is_signed(request.headers.get(HEADER), replicas.own.key, path, query):
            raise ApiError(HTTPStatus.UNAUTHORIZED, f"needs the header {HEADER} of a server of the same database")

    router = APIRouter(include_in_schema=False, dependencies=[Depends(check)])

    @router.get(TRACE)
    async def trace(request_id: Annotated[str, Query(alias="id")], stream: bool) -> Response:
        found = await own_trace(service, request_id, stream)
        if found is None:
            raise not_found(NOT_HERE, "id")
        found.response.headers[CREATED_HEADER] = str(found.created)
        return found.response

    @router.get(TOKENS)
    async def tokens(request_id: Annotated[str, Query(alias="id")], number: Annotated[int, Query(ge=0)]) -> Response:
        stored = await service.recent.settled(request_id)
        if stored is None:
            raise not_found(NOT_HERE, "id")
        headers = {CREATED_HEADER: str(stored.request.created)}
        found = msgspec.json.encode(stored_tokens(stored.request, number))
        return Response(found, media_type="application/json", headers=headers)

    @router.get(POSITION)
    async def position(request_id: Annotated[str, Query(alias="id")]) -> Response:
        found = own_position(service, request_id)
        if found is None:
            raise not_found(NOT_HERE, "id")
        return Response(msgspec.json.encode(found), media_type="application/json")

    @router.get(ROWS)
    async def rows(
        filters: Annotated[Filters, Depends()], limit: Annotated[int, Query(ge=1)], after: str | None = None
    ) -> Response:
        try:
            start = None if after is None else read_position(after)
        except ValueError:
            raise InputError("after", "is not a position") from None
        page = await own_page(service, filters, limit, start)
        return Response(msgspec.json.encode(page), media_type="application/json")

    return router
