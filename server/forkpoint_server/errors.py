"""Errors in the shape of the route that they are on: Anthropic's under /v1/messages, else OpenAI's, as vLLM answers."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse

from forkpoint_policies.spec import InputError
from forkpoint_server.vllm_seam import create_error_response

logger = logging.getLogger(__name__)

ERROR_TYPES = {
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "RequestTooLargeError",
    HTTPStatus.UNAUTHORIZED: "AuthenticationError",
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: "UnsupportedMediaTypeError",
    HTTPStatus.NOT_FOUND: "NotFoundError",
    HTTPStatus.CONFLICT: "ConflictError",
    HTTPStatus.INTERNAL_SERVER_ERROR: "InternalServerError",
    HTTPStatus.SERVICE_UNAVAILABLE: "ServiceUnavailableError",
}

ANTHROPIC_TYPES = {
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "request_too_large",
    HTTPStatus.UNAUTHORIZED: "authentication_error",
    HTTPStatus.NOT_FOUND: "not_found_error",
    HTTPStatus.SERVICE_UNAVAILABLE: "overloaded_error",
}
ANTHROPIC_ROUTES = "/v1/messages"
"""The start of the paths whose errors have Anthropic's shape."""

MAX_MESSAGE_CHARACTERS = 390
"""A message may quote what the client sent, and clients print it in tracebacks."""


class ApiError(Exception):
    """A request that is rejected with this status; `field` is the part of the request at fault.

    `retry_seconds`: when it may succeed, for the header Retry-After.
    """

    def __init__(
        self, status: HTTPStatus, message: str, field: str | None = None, retry_seconds: int | None = None
    ) -> None:
        self.status = status
        self.message = message
        self.field = field
        self.retry_seconds = retry_seconds
        super().__init__(message)


def not_found(message: str, field: str) -> ApiError:
    """404: `field` names something that does not exist."""
    return ApiError(HTTPStatus.NOT_FOUND, message, field)


def bad_request(error: InputError) -> ApiError:
    """400: a field's value cannot be used."""
    return ApiError(HTTPStatus.BAD_REQUEST, str(error), error.field)


def error_object(error: BaseException) -> dict[str, Any]:
    """Any error in OpenAI's shape: the body of a response, or an event of a stream that has started."""
    if isinstance(error, InputError):
        error = bad_request(error)
    if not isinstance(error, ApiError):
        return create_error_response(error if isinstance(error, Exception) else str(error)).model_dump()
    return create_error_response(
        _printable(error.message),
        ERROR_TYPES.get(error.status, "BadRequestError"),
        error.status,
        None if error.field is None else _printable(error.field),
    ).model_dump()


def error_response(error: ApiError | InputError, path: str = "") -> JSONResponse:
    """The response to an error on this path, for code outside of a route; inside, raise it."""
    status = error.status if isinstance(error, ApiError) else HTTPStatus.BAD_REQUEST
    headers = {"WWW-Authenticate": "Bearer"} if status == HTTPStatus.UNAUTHORIZED else {}
    if isinstance(error, ApiError) and error.retry_seconds is not None:
        headers["Retry-After"] = str(error.retry_seconds)
    if path.startswith(ANTHROPIC_ROUTES):
        kind = ANTHROPIC_TYPES.get(status, "invalid_request_error")
        return JSONResponse(
            {"type": "error", "error": {"type": kind, "message": _printable(str(error))}}, status, headers
        )
    return JSONResponse(error_object(error), status, headers)


async def handle_error(_request: Request, error: Exception) -> JSONResponse:
    """The app's handler of both kinds of error, wherever in a route they are raised."""
    assert isinstance(error, ApiError | InputError)
    if error.__cause__ is not None:
        logger.warning("%s (%s)", error, type(error.__cause__).__name__)
    return error_response(error)


def _printable(text: str) -> str:
    """Encodable in UTF-8 and at most MAX_MESSAGE_CHARACTERS: JSON can hold unpaired surrogates and long names."""
    printable = text.encode(errors="backslashreplace").decode()
    if len(printable) <= MAX_MESSAGE_CHARACTERS:
        return printable
    return f"{printable[: MAX_MESSAGE_CHARACTERS - 103]} … {printable[-100:]}"
