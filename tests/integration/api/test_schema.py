"""Our routes under requests sampled from their own OpenAPI document, as it says and otherwise: never a 5xx."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.generation import GenerationMode

from forkpoint_server.policies.eligibility import GENERATING
from forkpoint_server.policies.resolve import FIELDS
from tests.processes.forkpoint_server import Server

UNAVAILABLE = 503
"""The server lacks something for now, such as a text's last records; not a failure of the server."""


def num_requests_sent(server: Server, cases: int) -> int:
    """Call each of our operations so many times in either mode; return the number of requests."""
    ours = schemathesis.openapi.from_url(f"{server.url}/openapi.json").include(tag="forkpoint")
    num_sent = 0

    def send(case: schemathesis.Case[Any]) -> None:
        nonlocal num_sent
        num_sent += 1
        response = case.call(base_url=server.url, timeout=120)
        if response.status_code != UNAVAILABLE:
            case.validate_response(response, checks=[not_a_server_error])

    few = settings(max_examples=cases, deadline=None, suppress_health_check=list(HealthCheck), phases=[Phase.generate])
    for found in ours.get_all_operations():
        assert isinstance(found, Ok), found
        for mode in GenerationMode:
            with suppress(Unsatisfiable):  # an operation without parameters has no invalid request
                few(given(found.ok().as_strategy(generation_mode=mode))(send))()
    return num_sent


def test_no_request_makes_the_server_fail(server: Server) -> None:
    assert num_requests_sent(server, 3) >= 50


@pytest.mark.soak
def test_no_request_of_many_makes_the_server_fail(server: Server) -> None:
    assert num_requests_sent(server, 250) >= 5000


@pytest.mark.parametrize("path", GENERATING)
def test_the_document_has_our_fields_beside_vllms(server: Server, path: str) -> None:
    document = httpx.get(f"{server.url}/openapi.json", timeout=60).raise_for_status().json()
    body = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
    theirs, ours = (document["components"]["schemas"][one["$ref"].rpartition("/")[2]] for one in body["allOf"])
    assert set(FIELDS) == set(ours["properties"])
    assert not set(FIELDS) & set(theirs["properties"])
    assert theirs.get("additionalProperties", True)  # else the two would allow nothing together
