"""`/v1/vectors`: the vectors and readouts that policies can name."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse, Response

from forkpoint_policies.hidden.artefact import check_artefact_name, read_artefact
from forkpoint_policies.spec import InputError, unknown_name
from forkpoint_server.artefacts.served import NamedArtefact
from forkpoint_server.errors import ApiError, not_found
from forkpoint_server.service import Service
from forkpoint_server.store.artefacts import MAX_STORED, FullError, OtherModelError, remove_artefact, write_artefact
from forkpoint_server.store.executor import in_thread

from .admin import admin_only

BINARY = "application/octet-stream"
_BODY = {"requestBody": {"required": True, "content": {BINARY: {"schema": {"type": "string", "format": "binary"}}}}}


def vectors_router(service: Service, admin_key: str | None) -> APIRouter:
    """The routes, bound to a running server."""
    router = APIRouter(tags=["forkpoint"])
    guarded = [Depends(admin_only(admin_key))]

    @router.get("/v1/vectors")
    async def list_vectors() -> dict[str, Any]:
        """The vectors and readouts, without their values; for which model they must be, at which layers vectors can
        be added, and which layers can be run again."""
        model = service.artefacts.model
        return {
            "object": "list",
            "data": [one.to_dict() for _, one in sorted(service.artefacts.named.items())],
            "architecture": model.architecture,
            "hidden_size": model.hidden_size,
            "hidden_layers": list(service.model.hidden_layers),
            "recycle_layers": list(service.model.recycle_layers),
        }

    @router.get("/v1/vectors/{name}/file")
    async def download_vector(name: str) -> Response:
        """A vector's or readout's safetensors file."""
        return Response(_named(service, name).artefact.raw, media_type=BINARY)

    @router.get("/v1/vectors/{name}")
    async def show_vector(name: str) -> dict[str, Any]:
        """One vector or readout: for which model, how it was fitted, shapes and norms."""
        return _named(service, name).to_dict()

    @router.put("/v1/vectors/{name}", dependencies=guarded, openapi_extra=_BODY)
    async def put_vector(name: str, request: Request) -> JSONResponse:
        """Store a vector or readout, for all servers that share the database. The body is a safetensors file of at
        most 16 MiB."""
        _check_changeable(service, name)
        check_artefact_name(name, "name")
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != BINARY:
            raise ApiError(
                HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"must be sent with `Content-Type: {BINARY}`", "content-type"
            )
        artefact = read_artefact(await request.body(), "body", service.artefacts.model)
        if service.model.states_unreadable:
            raise InputError("body", f"cannot be used here: {service.model.states_unreadable}")
        try:
            new = await in_thread(write_artefact, service.database, name, artefact)
        except FullError:
            message = f"{MAX_STORED} vectors and readouts are stored, which is as many as can be; delete one first"
            raise ApiError(HTTPStatus.CONFLICT, message, "name") from None
        except OtherModelError as error:
            message = f"{name!r} is stored for {error}, which another server may serve; choose another name"
            raise ApiError(HTTPStatus.CONFLICT, message, "name") from None
        await service.experiments.follow()
        found = service.artefacts.named.get(name) or NamedArtefact(name, artefact, "stored")
        return JSONResponse(found.to_dict(), HTTPStatus.CREATED if new else HTTPStatus.OK)

    @router.delete("/v1/vectors/{name}", dependencies=guarded)
    async def delete_vector(name: str) -> dict[str, Any]:
        """Delete a stored vector or readout. Requests that run with it end with it."""
        _check_changeable(service, name)
        _named(service, name)
        try:
            await in_thread(remove_artefact, service.database, name)
        except KeyError:
            raise not_found(f"there is no vector or readout {name!r}", "name") from None
        await service.experiments.follow()
        return {"object": "vector.deleted", "name": name, "deleted": True}

    return router


def _named(service: Service, name: str) -> NamedArtefact:
    found = service.artefacts.named
    if name not in found:
        raise not_found(unknown_name("vector or readout", name, sorted(found)), "name")
    return found[name]


def _check_changeable(service: Service, name: str) -> None:
    if service.artefacts.is_fixed(name):
        origin = service.artefacts.named[name].origin
        loaded = "built in" if origin == "built in" else "loaded by --vectors"
        raise ApiError(HTTPStatus.CONFLICT, f"{name!r} is {loaded} and cannot be changed; choose another name", "name")
    if running := service.experiments.naming_artefact(name):
        message = f"{name!r} is in a running experiment: {', '.join(running)}; stop it first"
        raise ApiError(HTTPStatus.CONFLICT, message, "name")
