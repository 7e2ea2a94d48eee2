"""What gateways, pickers and web pages do: headers twice, lists of models, ids with slashes, errors in their shape."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.client import HTTPConnection
from typing import Any

import httpx
import pytest

from tests.integration.puzzles import MESSAGES
from tests.processes.forkpoint_server import API_KEY, Server

CHAT: dict[str, Any] = {"model": "countdown", "messages": MESSAGES, "max_tokens": 2}
HARD = [{"role": "user", "content": "Use 3, 7, 2, 5 to make 24."}]
POLICY = "X-Forkpoint-Policy"


@pytest.fixture
def http(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.api, timeout=60) as client:
        yield client


@pytest.mark.parametrize(
    ("values", "policy"),
    [
        (["observe", "observe"], "observe"),
        (["observe, observe"], "observe"),
        (["observe", ""], "observe"),
        ([""], None),
        (["observe", "nowait"], 400),
        (["observe, nowait"], 400),
    ],
)
def test_a_header_that_is_sent_twice(http: httpx.Client, values: list[str], policy: str | int | None) -> None:
    answer = http.post("/chat/completions", headers=[(POLICY, value) for value in values], json=CHAT)
    if policy == 400:
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, POLICY.lower())
    else:
        assert (answer.status_code, answer.headers.get(POLICY)) == (200, policy)


def test_a_unit_that_is_sent_twice(http: httpx.Client) -> None:
    arms = [{"name": "a", "weight": 0.5}, {"name": "b", "policy": "observe", "weight": 0.5}]
    http.post("/experiments", json={"name": "twice", "unit": "X-Twice", "arms": arms}).raise_for_status()
    try:
        for values, status, enrolled in ((["u", "u"], 200, True), (["u", "v"], 400, False), ([""], 200, False)):
            answer = http.post("/chat/completions", headers=[("X-Twice", value) for value in values], json=CHAT)
            assert (answer.status_code, "X-Forkpoint-Arm" in answer.headers) == (status, enrolled)
    finally:
        http.patch("/experiments/twice", json={"status": "stopped"})
        http.delete("/experiments/twice").raise_for_status()


def test_models(http: httpx.Client) -> None:
    assert [model["id"] for model in http.get("/models").json()["data"]] == ["countdown"]
    for name in ("countdown", "countdown:nowait", "countdown:none"):
        shown = http.get(f"/models/{name}").raise_for_status().json()
        assert (shown["id"], shown["object"]) == (name, "model")
    for name, near in (("countdown:nowiat", "did you mean nowait"), ("a/b:c", "there are countdown")):
        missing = http.get(f"/models/{name}")
        assert missing.status_code == 404
        assert near in missing.json()["error"]["message"]


@pytest.mark.parametrize("path", ["forks", "policies", "experiments", "models"])
def test_an_id_with_slashes_and_colons(http: httpx.Client, path: str) -> None:
    missing = http.get(f"/{path}/org/model:7b/x")
    assert missing.status_code == 404
    assert "org/model:7b/x" in missing.json()["error"]["message"]


def test_the_tokens_of_a_message_are_counted_under_an_alias(http: httpx.Client) -> None:
    """Agents count with the name that they generate with; a policy has no part in it."""
    body = {"messages": [{"role": "user", "content": "Use 3, 7, 2 to make 13."}], "system": "Be brief."}
    plain, alias, unknown = (
        http.post("/messages/count_tokens", json={"model": f"countdown{name}", **body})
        for name in ("", ":nowait", ":nowiat")
    )
    assert alias.status_code == plain.status_code == 200
    assert alias.json() == plain.json()
    assert plain.json()["input_tokens"] > 5
    named = http.post("/messages/count_tokens", json={"model": "countdown", **body, "policy": "nowait"})
    for refused, message in ((named, "policy: is not supported"), (unknown, "there is no policy 'nowiat'")):
        assert (refused.status_code, refused.json()["type"]) == (400, "error")
        assert message in refused.json()["error"]["message"]


def test_an_error_is_short_and_has_the_near_names(http: httpx.Client) -> None:
    for body, near in (
        ({"policy": "nowiat"}, "did you mean nowait"),
        ({"policy": "x" * 10_000}, "GET /v1/policies lists them"),
        ({"model": "countdown:nowiat"}, "did you mean nowait"),
        ({"policy": {"rules": [{"when": {"entropy_abov": 1}, "do": {"temperature": 1}}]}}, "entropy_above"),
    ):
        answer = http.post("/chat/completions", json={**CHAT, **body})
        message = answer.json()["error"]["message"]
        assert (answer.status_code, len(message) < 400) == (400, True), message
        assert near in message


@pytest.mark.parametrize("more", [{"policy": "nope"}, {"model": "countdown:nope"}, {"forks": 1}, {"policy": {}}])
@pytest.mark.parametrize("stream", [False, True])
def test_errors_of_messages_have_anthropics_shape(http: httpx.Client, more: dict[str, Any], stream: bool) -> None:
    answer = http.post("/messages", json={**CHAT, "stream": stream, **more})
    assert answer.status_code == 400
    assert (answer.json()["type"], answer.json()["error"]["type"]) == ("error", "invalid_request_error")
    assert answer.json()["error"]["message"]


def test_a_body_that_is_too_large_for_messages(http: httpx.Client) -> None:
    connection = HTTPConnection(http.base_url.host, http.base_url.port or 80, timeout=60)
    connection.putrequest("POST", "/v1/messages")
    connection.putheader("Content-Type", "application/json")
    connection.putheader("Content-Length", "9" * 17)
    connection.endheaders()
    answer = connection.getresponse()
    assert (answer.status, json.loads(answer.read())["error"]["type"]) == (413, "request_too_large")
    connection.close()


def test_a_length_of_more_digits_than_python_reads(server: Server) -> None:
    host, _, port = server.url.removeprefix("http://").partition(":")
    connection = HTTPConnection(host, int(port), timeout=60)
    connection.putrequest("GET", "/health")
    connection.putheader("Content-Length", "0" * 5000)
    connection.endheaders()
    assert connection.getresponse().status == 200
    connection.close()


def test_a_page_of_another_site_can_read_our_headers(http: httpx.Client) -> None:
    answer = http.post("/chat/completions", headers={POLICY: "observe", "Origin": "http://a.example"}, json=CHAT)
    assert {"x-forkpoint-policy", "x-forkpoint-arm", "x-request-id"} <= {
        name.strip().lower() for name in answer.headers["Access-Control-Expose-Headers"].split(",")
    }


def test_many_wrong_items_are_refused_before_they_cost_memory(http: httpx.Client) -> None:
    for path, field in (("/responses", "input"), ("/chat/completions", "messages"), ("/messages", "messages")):
        answer = http.post(path, json={"model": "countdown", "max_tokens": 2, field: [{}] * 20_000})
        assert answer.status_code == 400
        assert field in answer.text
        assert len(answer.text) < 600


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded"])
def test_our_routes_take_json_alone(http: httpx.Client, kind: str) -> None:
    for path in ("/experiments", "/policies/validate", "/experiments/x/outcomes"):
        answer = http.post(path, content=b"{}", headers={"Content-Type": kind, "Origin": "http://a.example"})
        assert answer.status_code == 415


@pytest.mark.parametrize(
    "policy",
    [
        "observe",
        "deer",
        {"use": "reasoning-cap", "with": {"tokens": 10}},
        {"use": "reasoning-cap", "with": {"tokens": 90}},
        {"rules": [{"do": {"sample": {"answers": 3, "warm_up": 1}}}]},
    ],
)
def test_an_agents_thinking_budget_and_a_policy_go_together(http: httpx.Client, policy: Any) -> None:
    """Whichever ends the reasoning first."""
    budget, body = 20, {**CHAT, "messages": HARD, "max_tokens": 300, "policy": policy, "temperature": 1}
    limit = 10 if isinstance(policy, dict) and policy.get("with") == {"tokens": 10} else budget
    answer = http.post("/chat/completions", json={**body, "thinking_token_budget": budget}).raise_for_status().json()
    assert 0 < answer["usage"]["completion_tokens_details"]["reasoning_tokens"] <= limit + 1
    thinking = {"type": "enabled", "budget_tokens": 1024}  # Anthropic's least
    long = {**body, "thinking": thinking, "max_tokens": 1200}
    message = http.post("/messages", json=long).raise_for_status().json()
    assert message["forkpoint"]["reasoning_tokens"] > 0


def test_a_client_cannot_tell_its_arm(other_server: Server) -> None:
    """Without --show-arms, both arms get the body, stream and headers of a request without a policy."""
    with httpx.Client(base_url=other_server.api, timeout=60) as http:
        key = {"Authorization": f"Bearer {API_KEY}"}
        admin = {"Authorization": "Bearer admin-key"}
        arms = [{"name": "control", "weight": 0.5}, {"name": "treated", "policy": "nowait", "weight": 0.5}]
        made = {"name": "blind", "unit": "X-Blind", "arms": arms}
        http.post("/experiments", json=made, headers=admin).raise_for_status()

        def ask(unit: str | None, **more: Any) -> httpx.Response:
            headers = {**key, **({"X-Blind": unit} if unit else {})}
            body = {"model": "random", "messages": MESSAGES, "max_tokens": 5, "ignore_eos": True, "policy": None}
            body |= {"policy": "none"} if unit is None else {}
            return http.post("/chat/completions", headers=headers, json={**body, **more}).raise_for_status()

        try:
            stock, stock_stream = ask(None), ask(None, stream=True)
            ids = []
            for number in range(12):
                answer, streamed = ask(f"u{number}"), ask(f"u{number}", stream=True)
                assert answer.json().keys() == stock.json().keys()
                assert answer.headers.keys() == stock.headers.keys()
                assert streamed.headers.keys() == stock_stream.headers.keys()
                assert "forkpoint" not in streamed.text
                ids.append(answer.json()["id"])
            outcomes = [{"request_id": one, "metrics": {"x": 1}} for one in ids]
            posted = http.post("/experiments/blind/outcomes", json=outcomes, headers=key)
            assert posted.json() == {"stored": 12, "duplicates": 0}
            asked = ask("u1", forks=True)
            assert asked.json()["forkpoint"]["experiment"] == "blind"
            assert asked.headers["X-Forkpoint-Arm"].startswith("blind/")
        finally:
            http.patch("/experiments/blind", json={"status": "stopped"}, headers=admin)
            http.delete("/experiments/blind", headers=admin).raise_for_status()
