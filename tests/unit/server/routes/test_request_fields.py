"""What the OpenAPI document says of a request's own fields."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel

from forkpoint_server.policies.resolve import FIELDS
from forkpoint_server.routes.request_fields import SCHEMA, describe_request_fields


class Completion(BaseModel):
    """Stands for a request of vLLM's."""

    prompt: str


def app_with_two_routes() -> FastAPI:
    app = FastAPI()

    @app.post("/v1/completions")
    def generate(body: Completion) -> None: ...

    @app.post("/v1/completions/render")
    def render(body: Completion) -> None: ...

    describe_request_fields(app)
    return app


def body_schema(document: dict[str, Any], path: str) -> dict[str, Any]:
    found: dict[str, Any] = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
    return found


def test_generating_routes_have_vllms_fields_and_ours() -> None:
    document = app_with_two_routes().openapi()
    theirs, ours = {"$ref": "#/components/schemas/Completion"}, {"$ref": f"#/components/schemas/{SCHEMA}"}
    assert body_schema(document, "/v1/completions") == {"allOf": [theirs, ours]}
    assert body_schema(document, "/v1/completions/render") == theirs  # refuses a policy
    assert set(document["components"]["schemas"][SCHEMA]["properties"]) == set(FIELDS)


def test_the_document_is_extended_once() -> None:
    app = app_with_two_routes()
    first = app.openapi()
    assert app.openapi() is first
    assert len(body_schema(app.openapi(), "/v1/completions")["allOf"]) == 2
