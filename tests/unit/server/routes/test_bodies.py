"""The bodies of our routes: what the OpenAPI document says of them, and which error an unreadable one gets."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast
from urllib.parse import unquote

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from forkpoint_policies.spec import InputError
from forkpoint_server.errors import ApiError, handle_error
from forkpoint_server.routes.calibration import calibration_router
from forkpoint_server.routes.experiments import experiments_router
from forkpoint_server.routes.forks import forks_router
from forkpoint_server.routes.policies import policies_router
from forkpoint_server.service import Service

BODIES = {
    ("put", "/v1/policies/{name}"),
    ("post", "/v1/policies/validate"),
    ("post", "/v1/experiments"),
    ("patch", "/v1/experiments/{name}"),
    ("post", "/v1/experiments/{name}/outcomes"),
    ("post", "/v1/forks"),
    ("put", "/v1/calibration"),
}


@pytest.fixture(scope="module")
def app() -> FastAPI:
    service = cast(Service, None)  # the requests of these tests end before a handler runs
    app = FastAPI()
    for router in (
        policies_router(service, "key"),
        experiments_router(service, "key"),
        calibration_router(service, "key"),
        forks_router(service),
    ):
        app.include_router(router)
    app.add_exception_handler(ApiError, handle_error)
    app.add_exception_handler(InputError, handle_error)
    return app


def references(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        yield from (value for key, value in part.items() if key == "$ref" and isinstance(value, str))
    for inner in part.values() if isinstance(part, dict) else part if isinstance(part, list) else ():
        yield from references(inner)


def resolve(document: Any, reference: str) -> Any:
    for step in unquote(reference.removeprefix("#/")).split("/"):
        document = document[step.replace("~1", "/").replace("~0", "~")]
    return document


def test_the_document_describes_every_body(app: FastAPI) -> None:
    document = app.openapi()
    described = {
        (method, path)
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
        if operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
    }
    assert described == BODIES
    schema = document["paths"]["/v1/policies/{name}"]["put"]["requestBody"]["content"]["application/json"]["schema"]
    assert "rules" in schema["properties"]


def test_every_reference_of_the_document_leads_to_a_schema(app: FastAPI) -> None:
    document = app.openapi()
    found = set(references(document))
    assert any("/put/requestBody/" in reference for reference in found)
    for reference in found:
        assert isinstance(resolve(document, reference), dict), reference


@pytest.mark.parametrize(("method", "path"), sorted(BODIES))
@pytest.mark.parametrize("body", [b"{", b"\xff", b""], ids=["cut off", "no UTF-8", "empty"])
def test_a_body_that_is_not_json(app: FastAPI, method: str, path: str, body: bytes) -> None:
    headers = {"Authorization": "Bearer key", "Content-Type": "application/json; charset=utf-8"}
    response = TestClient(app).request(method, path, content=body, headers=headers)
    assert response.status_code == 400
    error = response.json()["error"]
    assert (error["param"], error["message"]) == ("body", "body: is not JSON; send an object")


@pytest.mark.parametrize(("method", "path"), sorted(BODIES))
@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", None])
def test_a_body_of_a_type_that_any_web_page_can_send(app: FastAPI, method: str, path: str, kind: str | None) -> None:
    headers = {"Authorization": "Bearer key", **({} if kind is None else {"Content-Type": kind})}
    response = TestClient(app).request(method, path, content=b"{}", headers=headers)
    assert (response.status_code, response.json()["error"]["param"]) == (415, "content-type")


def test_the_admin_key_is_checked_before_the_body(app: FastAPI) -> None:
    assert TestClient(app).put("/v1/calibration", content=b"{").status_code == 401
