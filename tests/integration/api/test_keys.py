"""Keys: each route of ours wants one, those that change things want the other, and what is open is written down."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.processes.forkpoint_server import ADMIN_KEY, API_KEY, Server

SECURITY = (Path(__file__).parents[3] / "docs" / "security.md").read_text()
GUARDED = re.compile(r"/(v1|v2|inference|cohere)\b")
"""The path prefixes for which vLLM requires a key; all of our paths but the page's have one."""
CHANGING = {
    ("put", "/v1/policies/{name}"),
    ("delete", "/v1/policies/{name}"),
    ("post", "/v1/experiments"),
    ("patch", "/v1/experiments/{name}"),
    ("delete", "/v1/experiments/{name}"),
    ("put", "/v1/calibration"),
    ("put", "/v1/vectors/{name}"),
    ("delete", "/v1/vectors/{name}"),
    ("post", "/v1/states"),
}
WRONG = {
    "none": {},
    "empty": {"Authorization": ""},
    "another": {"Authorization": "Bearer test-ke"},
    "longer": {"Authorization": f"Bearer {API_KEY}x"},
    "scheme": {"Authorization": f"Basic {API_KEY}"},
    "bare": {"Authorization": API_KEY},
    "elsewhere": {"X-API-Key": API_KEY, "Cookie": f"key={API_KEY}"},
    "latin": {"Authorization": "Bearer \xff"},
}


def routes(server: Server) -> dict[tuple[str, str], dict[str, Any]]:
    """Every route of the running app that its OpenAPI document has, by method and path."""
    document = httpx.get(f"{server.url}/openapi.json", timeout=60).raise_for_status().json()
    return {(method, path): one for path, methods in document["paths"].items() for method, one in methods.items()}


def call(server: Server, method: str, path: str, headers: dict[str, str]) -> httpx.Response:
    url = server.url + re.sub(r"\{\w+(:path)?\}", "x", path)
    encoded = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    return httpx.request(
        method, url, json={} if method in ("post", "put", "patch") else None, headers=encoded, timeout=60
    )


@pytest.mark.parametrize("headers", WRONG.values(), ids=WRONG)
def test_every_route_of_ours_wants_a_key(other_server: Server, headers: dict[str, str]) -> None:
    ours = [route for route, one in routes(other_server).items() if "forkpoint" in one.get("tags", ())]
    assert len(ours) >= 16
    assert set(ours) >= CHANGING
    for method, path in ours:
        assert GUARDED.match(path), path
        assert call(other_server, method, path, headers).status_code == 401, (method, path)


def test_every_route_that_is_open_is_documented(other_server: Server) -> None:
    """Every route of the app, vLLM's included, that answers without a key."""
    hidden = {
        ("get", "/metrics"),
        ("get", "/"),
        ("get", "/forkpoint"),
        ("get", "/forkpoint/main.js"),
        ("get", "/docs"),
        ("get", "/redoc"),
        ("get", "/openapi.json"),
    }
    open_ones = {
        path
        for method, path in {*routes(other_server), *hidden}
        if call(other_server, method, path, {}).status_code != 401
    }
    documented = set(re.findall(r"^\| `(/[^`]*)` \|", SECURITY, re.MULTILINE))
    assert {path.replace("main.js", "{file}") for path in open_ones} == documented


@pytest.mark.parametrize(("method", "path"), sorted(CHANGING))
def test_what_changes_things_wants_the_admins_key(other_server: Server, method: str, path: str) -> None:
    refused = call(other_server, method, path, {"Authorization": f"Bearer {API_KEY}"})
    assert refused.status_code == 401
    assert "--admin-api-key" in refused.json()["error"]["message"]
    assert refused.headers["www-authenticate"] == "Bearer"
    allowed = call(other_server, method, path, {"Authorization": f"Bearer {ADMIN_KEY}"})
    assert allowed.status_code in (400, 404, 415), allowed.text


def test_the_admins_key_is_good_for_the_others(other_server: Server) -> None:
    assert call(other_server, "get", "/v1/policies", {"Authorization": f"Bearer {ADMIN_KEY}"}).status_code == 200


@pytest.mark.parametrize(
    "name",
    [
        "/v1/../v1/policies",
        "//v1/policies",
        "/V1/policies",
        "/v1%2fpolicies",
        "/./v1/policies",
        "/forkpoint/../v1/policies",
    ],
)
def test_no_spelling_of_a_path_goes_around_the_key(other_server: Server, name: str) -> None:
    with httpx.Client(base_url=other_server.url) as client:
        request = client.build_request("GET", "/")
        request.url = request.url.copy_with(raw_path=name.encode())  # as it is: httpx would tidy it
        response = client.send(request)
    assert response.status_code in (401, 404, 307), response.text
    assert "nowait" not in response.text
