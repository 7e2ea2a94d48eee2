"""Errors as vLLM says them: the OpenAI shape, with the field in `param`."""

from __future__ import annotations

from http import HTTPStatus

from forkpoint_policies.spec import PolicyError
from starlette.responses import JSONResponse
from vllm.entrypoints.serve.exception_handling.error_response import create_error_response


def wrong(error: PolicyError) -> JSONResponse:
    """400: what was asked for cannot be."""
    return JSONResponse(create_error_response(str(error), param=error.field).model_dump(), HTTPStatus.BAD_REQUEST)


def missing(message: str, field: str) -> JSONResponse:
    """404: there is no such thing."""
    told = create_error_response(message, "NotFoundError", HTTPStatus.NOT_FOUND, field)
    return JSONResponse(told.model_dump(), HTTPStatus.NOT_FOUND)


def unavailable(message: str) -> JSONResponse:
    """503: it cannot be done now."""
    told = create_error_response(message, "ServiceUnavailableError", HTTPStatus.SERVICE_UNAVAILABLE)
    return JSONResponse(told.model_dump(), HTTPStatus.SERVICE_UNAVAILABLE)
