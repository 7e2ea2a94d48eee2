"""Errors as vLLM says them: the OpenAI shape, with the field in `param`."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from forkpoint_policies.spec import PolicyError
from starlette.requests import Request
from starlette.responses import JSONResponse
from vllm.entrypoints.serve.exception_handling.error_response import create_error_response

KINDS = {
    HTTPStatus.UNAUTHORIZED: "AuthenticationError",
    HTTPStatus.NOT_FOUND: "NotFoundError",
    HTTPStatus.CONFLICT: "ConflictError",
    HTTPStatus.SERVICE_UNAVAILABLE: "ServiceUnavailableError",
}


class Refused(Exception):  # noqa: N818  # it says no; nothing went wrong
    """What was asked for is understood, and not done: `status` says in which way, `field` what it is about."""

    def __init__(self, status: HTTPStatus, message: str, field: str | None = None) -> None:
        self.status = status
        self.message = message
        self.field = field
        super().__init__(message)


def error_object(error: BaseException) -> dict[str, Any]:
    """Any error in OpenAI's shape, for a stream that has begun."""
    if isinstance(error, Refused):
        return create_error_response(error.message, KINDS[error.status], error.status, error.field).model_dump()
    return create_error_response(error if isinstance(error, Exception) else str(error)).model_dump()


async def refusal(_request: Request, error: Exception) -> JSONResponse:
    """The response to a Refused, wherever in a route it was raised."""
    assert isinstance(error, Refused)
    headers = {"WWW-Authenticate": "Bearer"} if error.status == HTTPStatus.UNAUTHORIZED else None
    return JSONResponse(error_object(error), error.status, headers)


async def wrong_policy(_request: Request, error: Exception) -> JSONResponse:
    """The response to a PolicyError, wherever in a route it was raised."""
    assert isinstance(error, PolicyError)
    return wrong(error)


def wrong(error: PolicyError) -> JSONResponse:
    """400: what was asked for cannot be."""
    return JSONResponse(create_error_response(str(error), param=error.field).model_dump(), HTTPStatus.BAD_REQUEST)


def missing(message: str, field: str) -> JSONResponse:
    """404: there is no such thing."""
    told = create_error_response(message, "NotFoundError", HTTPStatus.NOT_FOUND, field)
    return JSONResponse(told.model_dump(), HTTPStatus.NOT_FOUND)
