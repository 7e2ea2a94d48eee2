"""The bodies of our routes in the OpenAPI document: the routes parse them, so that all errors have one shape."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel

from forkpoint_policies.spec import Policy
from forkpoint_server.calibration.profile import EntropyProfile
from forkpoint_server.experiments.definition import METRIC_NAME, Change, Definition
from forkpoint_server.fork_analysis.request import ForksRequest

_OUTCOME = {
    "type": "object",
    "required": ["request_id", "metrics"],
    "additionalProperties": False,
    "properties": {
        "request_id": {"type": "string", "minLength": 1},
        "metrics": {
            "type": "object",
            "minProperties": 1,
            "propertyNames": {"pattern": METRIC_NAME.pattern},
            "additionalProperties": {"type": "number"},
        },
    },
}
BODIES: dict[tuple[str, str], type[BaseModel] | dict[str, Any]] = {
    ("put", "/v1/policies/{name}"): Policy,
    ("post", "/v1/policies/validate"): Policy,
    ("post", "/v1/experiments"): Definition,
    ("patch", "/v1/experiments/{name}"): Change,
    ("post", "/v1/experiments/{name}/outcomes"): {"anyOf": [_OUTCOME, {"type": "array", "items": _OUTCOME}]},
    ("post", "/v1/forks"): ForksRequest,
    ("put", "/v1/calibration"): EntropyProfile,
}


def describe_bodies(app: FastAPI) -> None:
    """Add the bodies of our routes to the app's document."""
    plain = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = plain()
            for (method, path), body in BODIES.items():
                schema = _schema(body, document["components"]["schemas"])
                content = {"application/json": {"schema": schema}}
                document["paths"][path][method]["requestBody"] = {"required": True, "content": content}
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's own way to extend it


def _schema(body: type[BaseModel] | dict[str, Any], components: dict[str, Any]) -> dict[str, Any]:
    """The schema of a body; the parts that it refers to go to the components, under names of ours."""
    if isinstance(body, dict):
        return body
    schema = body.model_json_schema(ref_template="#/components/schemas/Forkpoint{model}")
    components.update({f"Forkpoint{name}": part for name, part in schema.pop("$defs", {}).items()})
    return schema
