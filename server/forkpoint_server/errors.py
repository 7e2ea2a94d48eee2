"""Errors as vLLM says them: the OpenAI shape, with the field in `param`."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse

from forkpoint_policies.spec import InputError
from forkpoint_server.vllm_seam import create_error_response

KINDS = {
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "RequestTooLargeError",
    HTTPStatus.UNAUTHORIZED: "AuthenticationError",
    HTTPStatus.NOT_FOUND: "NotFoundError",
    HTTPStatus.CONFLICT: "ConflictError",
    HTTPStatus.SERVICE_UNAVAILABLE: "ServiceUnavailableError",
}

MAX_SAID = 4000
"""Characters of an error's message: it may quote what was sent."""


class ApiError(Exception):  # it says no; nothing went wrong
    """What was asked for is understood, and not done: `status` says in which way, `field` what it is about."""

    def __init__(self, status: HTTPStatus, message: str, field: str | None = None) -> None:
        self.status = status
        self.message = message
        self.field = field
        super().__init__(message)


def error_object(error: BaseException) -> dict[str, Any]:
    """Any error in OpenAI's shape, for a stream that has begun."""
    if isinstance(error, ApiError):
        return _told(error.message, error.field, error.status)
    return create_error_response(error if isinstance(error, Exception) else str(error)).model_dump()


def _told(message: str, field: str | None, status: HTTPStatus) -> dict[str, Any]:
    """An error in OpenAI's shape, of texts that may be anything that a client sent."""
    kind = KINDS.get(status, "BadRequestError")
    return create_error_response(
        _sayable(message), kind, status, None if field is None else _sayable(field)
    ).model_dump()


def _sayable(text: str) -> str:
    """A text that UTF-8 can write, and no longer than MOST_SAID: JSON also brings halves of characters, and names of any length."""
    shown = text if len(text) <= MAX_SAID else f"{text[: MAX_SAID - 100]} … {text[-50:]}"
    return shown.encode(errors="backslashreplace").decode()


async def refusal(_request: Request, error: Exception) -> JSONResponse:
    """The response to a Refused, wherever in a route it was raised."""
    assert isinstance(error, ApiError)
    return refused(error)


def refused(error: ApiError) -> JSONResponse:
    """The response to a Refused."""
    headers = {"WWW-Authenticate": "Bearer"} if error.status == HTTPStatus.UNAUTHORIZED else None
    return JSONResponse(error_object(error), error.status, headers)


async def wrong_policy(_request: Request, error: Exception) -> JSONResponse:
    """The response to a InputError, wherever in a route it was raised."""
    assert isinstance(error, InputError)
    return wrong(error)


def wrong(error: InputError) -> JSONResponse:
    """400: what was asked for cannot be."""
    return JSONResponse(_told(str(error), error.field, HTTPStatus.BAD_REQUEST), HTTPStatus.BAD_REQUEST)


def missing(message: str, field: str) -> JSONResponse:
    """404: there is no such thing."""
    return JSONResponse(_told(message, field, HTTPStatus.NOT_FOUND), HTTPStatus.NOT_FOUND)
