"""Bodies of our routes: requests' parsed by a dependency, and all described in the app's OpenAPI document.

FastAPI's own body parameters would parse a body before the admin key is checked, and report errors through a handler
that vLLM's routes share.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any, TypeVar

from fastapi import Request
from pydantic import BaseModel

from forkpoint_policies.spec import InputError
from forkpoint_server.errors import ApiError
from forkpoint_server.http.body import PARSED
from forkpoint_server.http.json_parts import check_parts

_Parsed = TypeVar("_Parsed")


async def json_body(request: Request) -> Any:
    """A dependency: the body as JSON. Raises InputError for one that is not JSON or too much of it, ApiError (415) for
    another type.

    A web page can send other types to any server that its reader reaches, without asking that server first.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
        raise ApiError(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "must be sent with `Content-Type: application/json`", "content-type"
        )
    parsed = request.scope.get(PARSED)
    if parsed is not None:
        return parsed
    raw = await request.body()
    check_parts(raw)
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        raise InputError("body", "is not JSON; send an object") from None


def parsed_body(parse: Callable[[Any], _Parsed]) -> Callable[[Request], Awaitable[_Parsed]]:
    """A dependency: what `parse` makes of the body. Both raise InputError."""

    async def dependency(request: Request) -> _Parsed:
        return parse(await json_body(request))

    return dependency


def describe_body(operation: str, body: type[BaseModel] | dict[str, Any]) -> dict[str, Any]:
    """A route's `openapi_extra`: its body, a model or a schema. `operation` is as in "put /v1/calibration"."""
    return {
        "requestBody": {"required": True, "content": {"application/json": {"schema": _schema(operation, body)}}},
    }


def describe_response(model: type[BaseModel], status: HTTPStatus = HTTPStatus.OK) -> dict[str, Any]:
    """A route's arguments that describe what it answers with, and do not check it."""
    return {"response_model": None, "responses": {int(status): {"model": model}}}


def _schema(operation: str, body: type[BaseModel] | dict[str, Any]) -> dict[str, Any]:
    if isinstance(body, dict):
        return body
    # a reference starts at the document's root, and the schema's own definitions lie within the operation
    method, path = operation.split()
    escaped = path.replace("/", "~1").replace("{", "%7B").replace("}", "%7D")
    here = f"#/paths/{escaped}/{method}/requestBody/content/application~1json/schema"
    return body.model_json_schema(ref_template=here + "/$defs/{model}")
