"""Hostile input over HTTP: each answer is a clear no (4xx) or harmless, in bounded time, and the server serves on."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st

from forkpoint_policies.worker.payload import RESERVED_KEY
from forkpoint_server.http.body import MAX_OWN_BYTES
from forkpoint_server.http.json_parts import MAX_PARTS
from forkpoint_server.policies.compiled import MAX_WAITING
from tests.integration.polling import until
from tests.integration.puzzles import MESSAGES
from tests.processes.forkpoint_server import Server
from tests.unit.policies.hostile import policies

SECONDS = 60
"""Of one answer; ample for a busy machine, and no answer here takes more than a moment on an idle one."""
JSON = {"content-type": "application/json"}
HALF = "\ud800"  # half of a character: JSON can bring it, UTF-8 cannot write it
BODIES = {
    "/v1/chat/completions": {"messages": MESSAGES, "max_tokens": 2},
    "/v1/completions": {"prompt": "Use 3", "max_tokens": 2},
    "/v1/responses": {"input": "Use 3", "max_output_tokens": 2},
    "/v1/messages": {"messages": MESSAGES, "max_tokens": 2},
}


@pytest.fixture(scope="module")
def http(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=SECONDS) as client:
        yield client


@pytest.fixture(autouse=True)
def serves_on(http: httpx.Client) -> Iterator[None]:
    yield
    assert http.get("/health").status_code == 200


def post(http: httpx.Client, path: str, body: Any) -> httpx.Response:
    """Send Python's JSON, lone surrogates and NaN included; an error must have OpenAI's shape."""
    try:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
    except RecursionError:  # deeper than Python writes; test_odd_bodies_of_our_routes sends such
        reject()
    response = http.post(path, content=content, headers={"content-type": "application/json"})
    assert response.status_code < 500, response.text
    if response.status_code >= 400:
        assert response.json()["error"]["message"], response.text
    return response


def refused(http: httpx.Client, path: str, body: Any, status: int = 400) -> dict[str, Any]:
    response = post(http, path, body)
    assert response.status_code == status, response.text[:1000]
    error: dict[str, Any] = response.json()["error"]
    return error


@given(policies)
@settings(max_examples=40, suppress_health_check=list(HealthCheck), deadline=None)
def test_any_inline_policy_gets_an_answer(http: httpx.Client, policy: Any) -> None:
    post(http, "/v1/policies/validate", {"policy": policy})
    post(http, "/v1/completions", {"model": "countdown", "prompt": "Use 3", "max_tokens": 1, "policy": policy})


@pytest.mark.soak
@given(policies, st.sampled_from(sorted(BODIES)))
@settings(max_examples=2000, suppress_health_check=list(HealthCheck), deadline=None)
def test_any_inline_policy_gets_an_answer_at_length(http: httpx.Client, policy: Any, path: str) -> None:
    post(http, path, {"model": "countdown", **BODIES[path], "policy": policy})


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize(
    "policy",
    [
        {HALF: 1, "rules": []}, {"use": "nowait", HALF: 1}, {"use": "nowait", "with": {HALF: 1}}, {"use": HALF}, HALF,
        {"rules": [{"do": {HALF: {}}}]}, {"rules": [{"do": {"force": {"text": HALF}}}]},
        {"description": HALF, "rules": []},
    ],
)  # fmt: skip
def test_halves_of_characters(http: httpx.Client, path: str, policy: Any) -> None:
    error = refused(http, path, {"model": "countdown", **BODIES[path], "policy": policy})
    assert error.get("param", error["message"]).startswith("policy")  # Anthropic's shape names no field


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/v1/forks", {HALF: 1}, "body"),
        ("/v1/forks", b'{"prompt": "a", "completion": "b", "verify": ' + b"9" * 4300 + b"}", "verify"),
        (
            "/v1/forks",
            b'{"prompt": "a", "completion": "b", "verify": 10, "max_tokens": ' + b"9" * 4300 + b"}",
            "max_tokens",
        ),
        ("/v1/forks", {"prompt": [10**30], "completion": [1]}, "prompt"),
        ("/v1/forks", {"prompt": [-1], "completion": [1]}, "prompt"),
        ("/v1/forks", b'{"prompt": "a", "completion": "b", "verify": 10, "fdr": NaN}', "fdr"),
        ("/v1/experiments", {HALF: 1}, "body"),
        (
            "/v1/experiments",
            {"name": "../x", "arms": [{"name": "a", "weight": 0.5}, {"name": "b", "weight": 0.5}]},
            "name",
        ),
        ("/v1/policies/validate", {"policy": {"use": "nowait", HALF: 1}}, "policy."),
        ("/v1/policies/validate", b"[" * 100_000 + b"]" * 100_000, "body"),
        ("/v1/policies/validate", {"policy": {"rules": [{"do": {"observe": {}}}] * 40_000}}, "policy.rules"),
        ("/v1/policies/validate", b'{"policy": [' + b"[]," * MAX_PARTS + b"[]]}", "body"),
        ("/v1/forks", b'{"messages": [{"role": "assistant", "content": [' + b"{}," * 3_000_000 + b"{}]}]}", "body"),
        ("/v1/forks", {f"a{number}": 1 for number in range(400_000)}, "body"),
        ("/v1/forks", {f"a{number}": 1 for number in range(MAX_PARTS - 1)}, "a0"),
    ],
)
def test_odd_bodies_of_our_routes(http: httpx.Client, path: str, body: Any, field: str) -> None:
    assert refused(http, path, body)["param"].startswith(field)


def test_an_error_quotes_little_of_what_was_sent(http: httpx.Client) -> None:
    for body in (
        {"policy": "x" * 1_000_000},
        {"policy": {"x" * 1_000_000: 1}},
        {"model": "countdown:" + "x" * 1_000_000},
    ):
        assert len(post(http, "/v1/completions", {"model": "countdown", "prompt": "x", **body}).content) < 10_000


@pytest.mark.parametrize("value", ["x", b"\0", 7, [1, 2], {"program": "x"}])
def test_the_reserved_key_cannot_be_smuggled(http: httpx.Client, server: Server, value: Any) -> None:
    """With and without a policy, on every route that takes extra arguments: nothing is applied, nothing is reported."""
    value = value.decode() if isinstance(value, bytes) else value
    bodies = [
        (path, {"model": "countdown", "vllm_xargs": {RESERVED_KEY: value}, **body}) for path, body in BODIES.items()
    ]
    conversations = {
        "model": "countdown",
        "messages": [MESSAGES, MESSAGES],
        "max_tokens": 2,
        "vllm_xargs": {RESERVED_KEY: value},
    }
    bodies.append(("/v1/chat/completions/batch", conversations))
    sampling = {"max_tokens": 2, "extra_args": {RESERVED_KEY: value}}
    bodies.append(("/inference/v1/generate", {"model": "countdown", "token_ids": [5, 6], "sampling_params": sampling}))
    bodies.append(
        ("/invocations", {"model": "countdown", "prompt": "x", "max_tokens": 2, "vllm_xargs": {RESERVED_KEY: value}})
    )
    before = server.metrics().get("forkpoint_telemetry_dropped_total", 0.0)
    for path, body in bodies:
        response = post(http, path, body)
        assert response.status_code in (200, 400, 403, 404), (
            path,
            response.text,
        )  # 403: without --enable-scale-out there is none
        assert '"forkpoint"' not in response.text or response.status_code != 200, path
    answer = post(http, "/v1/completions", {**dict(bodies)["/v1/completions"], "policy": "nowait"})
    if answer.status_code == 200:
        assert answer.json()["forkpoint"]["policy"] == "nowait"
    assert server.metrics().get("forkpoint_telemetry_dropped_total", 0.0) == before


NAMES = (
    "..%2fx", "a%00b", "a:b", "connectors", "schema", "validate", "none", "inline", "con%6eectors",
    "a%0d%0aX-Evil:%201",
    "%EF%BD%81", "x" * 5000, "a.placebo", "nowait", "a%20b", "..", "%2e%2e%2f%2e%2e%2fetc%2fpasswd", "%ff", "-a", "A",
)  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_names_that_are_paths_or_routes(http: httpx.Client, name: str) -> None:
    listed = {one["name"] for one in http.get("/v1/policies").json()["data"]}
    put = http.put(f"/v1/policies/{name}", json={"rules": [{"do": {"temperature": 1.0}}]})
    assert put.status_code in (400, 404, 405, 409), put.text
    for path in (f"/v1/forks/{name}", f"/v1/experiments/{name}", f"/forkpoint/{name}"):
        assert http.get(path).status_code in (200, 307, 404), path
        assert b"root:" not in http.get(path, follow_redirects=True).content
    changes = (
        ("DELETE", f"/v1/policies/{name}"),
        ("DELETE", f"/v1/experiments/{name}"),
        ("PATCH", f"/v1/experiments/{name}"),
    )
    for method, path in changes:
        assert http.request(method, path, json={"status": "paused"}).status_code in (400, 404, 405, 409), (method, path)
    assert {one["name"] for one in http.get("/v1/policies").json()["data"]} == listed


def sent(server: Server, body: Any, *headers: bytes) -> socket.socket:
    """A connection of its own on which a request was sent with these lines among its headers, as they are."""
    where, content = (
        urlsplit(server.url),
        json.dumps({"model": "countdown", "prompt": "x", "max_tokens": 1, **body}).encode(),
    )
    connection = socket.create_connection((where.hostname, where.port), 10)
    connection.settimeout(2 * SECONDS)
    lines = [b"POST /v1/completions HTTP/1.1", b"Host: x", b"Content-Type: application/json", b"Connection: close"]
    connection.sendall(b"\r\n".join([*lines, b"Content-Length: %d" % len(content), *headers, b"", content]))
    return connection


def exchanged(server: Server, header: bytes) -> bytes:
    """What the server answers to a request with these bytes as the policy's header."""
    parts = []
    with sent(server, {}, b"X-Forkpoint-Policy: " + header) as connection:
        try:
            while part := connection.recv(1 << 16):
                parts.append(part)
        except ConnectionResetError:
            pass  # it had said enough
    return b"".join(parts)


@pytest.mark.parametrize(
    "header",
    [
        "名".encode(),
        b"\xff\xfe",
        b"a" * 60_000,
        b"a" * 1_000_000,
        b"a\0b",
        b"a\nX-Evil: 1",
        b"a\rX-Evil: 1",
        b"../x",
    ],
)
def test_headers_that_are_no_names(server: Server, header: bytes) -> None:
    answer = exchanged(server, header)
    assert answer.startswith((b"HTTP/1.1 400", b"HTTP/1.1 431"))
    assert b"X-Evil" not in answer.partition(b"\r\n\r\n")[0]
    assert len(answer) < 10_000


FOREVER = {
    "a forced loop": {"rules": [{"do": {"force": {"text": "Wait"}}}]},
    "no end of reasoning": {"rules": [{"do": {"force": {"text": "Wait", "instead_of": "end_of_reasoning"}}}]},
    "no end of text": {"rules": [{"do": {"suppress": {"token_ids": list(range(10))}}}]},
    "only what never ends": {"rules": [{"do": {"suppress": {"token_ids": list(range(1, 576))}}}]},
    "going on and on": {"rules": [{"do": {"resume": {"text": "Wait", "budget_tokens": 1_000_000_000}}}]},
    "trials everywhere": {"rules": [{"do": {"probe": {"tokens": 256, "agreement": 1000}}}]},
    "branches everywhere": {"rules": [{"do": {"branch": {"width": 256, "max_branches": 256, "select": "majority"}}}]},
    "many samples": {"rules": [{"do": {"sample": {"answers": 256, "decided_at": None}}}]},
}


@pytest.mark.parametrize("policy", FOREVER.values(), ids=FOREVER)
def test_a_policy_goes_on_as_long_as_its_request_says(http: httpx.Client, policy: dict[str, Any]) -> None:
    body = {"model": "countdown", "messages": MESSAGES, "max_tokens": 48, "policy": policy}
    response = post(http, "/v1/chat/completions", body)
    assert response.status_code == 200, response.text
    assert response.json()["usage"]["completion_tokens"] <= 16 * (48 + 256)  # with the trials of answers


@pytest.mark.soak
@pytest.mark.parametrize("policy", FOREVER.values(), ids=FOREVER)
def test_no_policy_keeps_a_request_alive(http: httpx.Client, server: Server, policy: dict[str, Any]) -> None:
    """Without max_tokens: the model's context bounds each answer, and --max-branches their number."""
    with httpx.Client(base_url=server.url, timeout=600) as patient:
        response = post(patient, "/v1/chat/completions", {"model": "countdown", "messages": MESSAGES, "policy": policy})
    assert response.status_code == 200, response.text
    longest = http.get("/v1/models").json()["data"][0]["max_model_len"]
    assert response.json()["usage"]["completion_tokens"] <= 16 * longest


def test_a_body_is_read_up_to_a_bound(http: httpx.Client, server: Server) -> None:
    for path in ("/v1/policies/validate", "/v1/forks", "/v1/experiments"):
        error = refused(http, path, b'{"x": "' + b"x" * MAX_OWN_BYTES + b'"}', 413)
        assert "larger than 16 MiB" in error["message"]

    def chunks() -> Iterator[bytes]:
        for _ in range(MAX_OWN_BYTES // (1 << 20) + 1):
            yield b" " * (1 << 20)

    assert (
        http.put("/v1/policies/large", content=chunks(), headers=JSON).status_code == 413
    )  # which does not say how large it is
    where = urlsplit(server.url)
    with socket.create_connection((where.hostname, where.port), SECONDS) as connection:
        connection.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000000\r\n\r\n{")
        assert connection.recv(12) == b"HTTP/1.1 413"  # and this one says so before it is sent


@pytest.mark.parametrize("path", BODIES)
def test_a_body_of_millions_of_parts_is_not_parsed(http: httpx.Client, path: str) -> None:
    """A parser would hold up all other requests for seconds."""
    whole = json.dumps({"model": "countdown", **BODIES[path]}).encode()
    body = whole[:-1] + b', "metadata": [' + b"[]," * 3_000_000 + b"[]]}"
    assert f"more than {MAX_PARTS} objects" in refused(http, path, body)["message"]


def test_a_flood_of_new_policies_is_refused_and_hurts_nobody(http: httpx.Client, server: Server) -> None:
    """Named policies have a thread of their own; what its clients have left is not compiled."""
    words = ["ΐ" * 60 + chr(0x3B1 + one) for one in range(20)]
    body: dict[str, Any] = {"model": "countdown", "prompt": "x", "max_tokens": 1}
    flood = [
        sent(server, {"policy": {"rules": [{"do": {"amplify": {"words": [*words, f"v{number}"], "bias": 1.0}}}]}})
        for number in range(3 * MAX_WAITING)
    ]
    try:
        last = flood[-1].recv(4096)
        assert last.startswith(b"HTTP/1.1 503"), last
        assert b"retry-after: 5" in last.lower()
        assert http.post("/v1/completions", json={**body, "policy": "nowait"}).status_code == 200
    finally:
        for connection in flood:
            connection.close()
    inline = {"rules": [{"do": {"amplify": {"words": ["other"], "bias": 1.0}}}]}
    until(lambda: http.post("/v1/completions", json={**body, "policy": inline}).status_code == 200)


def test_others_are_answered_while_many_large_policies_are_compiled(http: httpx.Client, server: Server) -> None:
    """Each is another one, so that no cache helps."""
    words = ["ΐ" * 60 + chr(0x3B1 + one) for one in range(20)]
    bodies = [{"rules": [{"do": {"amplify": {"words": [*words, f"w{number}"], "bias": 1.0}}}]} for number in range(40)]
    waiting = [sent(server, {"policy": body}) for body in bodies]
    began = time.monotonic()
    assert http.get("/health").status_code == 200
    assert time.monotonic() - began < 10
    for connection in waiting:
        assert connection.recv(15) == b"HTTP/1.1 200 OK"
        connection.close()


def test_nothing_of_a_request_is_written_to_the_log(http: httpx.Client, server: Server) -> None:
    """Neither prompts nor answers nor inline policies; a request's line has its path, quoted."""
    before = len(server.log.read_text(errors="replace"))
    marker = "Zanzibar\nERROR forged line"
    for policy in (None, {"description": marker, "rules": []}, marker):
        body = {
            "model": "countdown",
            "prompt": marker,
            "max_tokens": 2,
            "forks": True,
            "user": marker,
            "policy": policy,
        }
        post(http, "/v1/completions", body)
    for path in ("/v1/forks/{}", "/v1/policies/{}", "/v1/experiments/{}"):
        http.get(path.format("x%0aERROR%20forged%20line"))
    written = server.log.read_text(errors="replace")[before:]
    assert "Zanzibar" not in written
    assert "\nERROR forged line" not in written


@pytest.mark.parametrize("protocol", ["websocket", "h2c"])
def test_a_request_for_another_protocol_is_answered_over_http(http: httpx.Client, protocol: str) -> None:
    key = {"sec-websocket-version": "13", "sec-websocket-key": "A" * 22 + "=="}
    upgrade = {"connection": "upgrade", "upgrade": protocol, **key}
    assert http.get("/v1/models", headers=upgrade).status_code == 200
    for path in (*BODIES, "/v1/policies/validate"):
        started = time.monotonic()
        answer = http.post(path, json={"model": "countdown", **BODIES.get(path, {})}, headers=upgrade)
        assert answer.status_code == 400, answer.text  # BodyLimit's, or uvicorn's where the body is another packet
        assert answer.headers["connection"] == "close"  # what is left of the body is not a request
        assert time.monotonic() - started < SECONDS / 2


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("top_k", 10**30),
        ("thinking_token_budget", 10**30),
        ("stop", HALF),
        ("request_id", HALF),
        ("structured_outputs", 5),
    ],
)
def test_values_that_the_engine_cannot_read_are_named(http: httpx.Client, field: str, value: Any) -> None:
    for path in ("/v1/chat/completions", "/v1/completions"):
        answer = post(http, path, {"model": "countdown", **BODIES[path], field: value})
        assert answer.status_code == 400, answer.text
        assert field in answer.json()["error"]["message"]


def test_a_deeply_nested_invocation(http: httpx.Client) -> None:
    assert post(http, "/invocations", b'{"prompt": ' + b"[" * 5000 + b"]" * 5000 + b"}").status_code == 400
