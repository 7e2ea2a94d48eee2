"""What Open WebUI sends, as docs/recipes.md connects it. The application itself is not installed here.

Source of the requests: backend/open_webui/routers/openai.py and utils/payload.py in github.com/open-webui/open-webui.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.integration.polling import until
from tests.processes.forkpoint_server import API_KEY, Server

USER = {
    "X-OpenWebUI-User-Name": "Ada%20Lovelace",
    "X-OpenWebUI-User-Id": "5f2c",
    "X-OpenWebUI-User-Email": "ada@example.org",
    "X-OpenWebUI-User-Role": "user",
}
"""With ENABLE_FORWARD_USER_INFO_HEADERS it says whom it asks for, also when it lists models."""
CHAT = {**USER, "X-OpenWebUI-Chat-Id": "c-1", "Content-Type": "application/json"}
MESSAGES = [
    {"role": "system", "content": "Answer briefly."},
    {"role": "user", "content": "Use 3, 7, 2 to make 17."},
]


def connected(server: Server, key: str, **headers: str) -> httpx.Client:
    """A connection: its URL, its key, and the headers that are written into it."""
    return httpx.Client(
        base_url=server.api, headers={"Authorization": f"Bearer {key}", **CHAT, **headers}, timeout=60, trust_env=False
    )


@pytest.fixture
def webui(server: Server) -> Iterator[httpx.Client]:
    with connected(server, "any") as connection:
        yield connection


def turn(model: str, **parameters: Any) -> dict[str, Any]:
    """A turn of a chat: it always streams and asks for the usage; `parameters` are the model's own and custom ones."""
    return {
        "stream": True, "model": model, "messages": MESSAGES, "stream_options": {"include_usage": True},
        "temperature": 0.7, "top_p": 0.9, "max_tokens": 40, "seed": 1, "frequency_penalty": 0.0, **parameters,
    }  # fmt: skip


def streamed(connection: httpx.Client, body: dict[str, Any]) -> list[dict[str, Any]]:
    """The events of a stream, read line by line as it does: `data: ` and JSON, `[DONE]` last."""
    with connection.stream("POST", "/chat/completions", content=json.dumps(body)) as response:
        assert response.status_code == 200, response.read()
        assert "text/event-stream" in response.headers["Content-Type"]
        lines = [line for line in response.iter_lines() if line]
    assert all(line.startswith("data: ") for line in lines)
    assert lines[-1] == "data: [DONE]"
    return [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]


def policy_of(server: Server, events: list[dict[str, Any]]) -> str | None:
    """The policy under which a stream was generated, as the console shows it."""
    trace = httpx.get(f"{server.api}/forks/{events[0]['id']}").raise_for_status().json()
    named: str | None = trace["policy"]
    return named


def test_the_picker_lists_the_models_of_a_server_with_a_key(other_server: Server) -> None:
    with connected(other_server, API_KEY) as connection:
        listed = connection.get("/models").raise_for_status().json()
    assert listed["object"] == "list"
    assert [one["id"] for one in listed["data"]] == ["random", "random:calm"]
    assert all(one.get("name", one["id"]) for one in listed["data"])


def test_a_wrong_key_is_refused_with_an_error_that_it_shows(other_server: Server) -> None:
    with connected(other_server, "wrong") as connection:
        refused = [connection.get("/models"), connection.post("/chat/completions", content=json.dumps(turn("random")))]
    for response in refused:
        assert response.status_code == 401
        assert "error" in response.json()


def test_a_policy_is_chosen_as_a_model(server: Server, webui: httpx.Client) -> None:
    """The reasoning and the answer arrive in the fields that it shows, and the usage at the end."""
    events = streamed(webui, turn("countdown:nowait", messages=MESSAGES[-1:], max_tokens=2000))
    choices = [choice for event in events for choice in event["choices"]]
    deltas = [choice["delta"] for choice in choices]
    assert "".join(delta.get("reasoning") or delta.get("reasoning_content") or "" for delta in deltas)
    assert "".join(delta.get("content") or "" for delta in deltas).strip()
    assert [choice["finish_reason"] for choice in choices if choice["finish_reason"]] == ["stop"]
    (usage,) = [event["usage"] for event in events if event.get("usage")]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert policy_of(server, events) == "nowait"


def test_a_connection_names_its_policy_in_a_header(server: Server) -> None:
    with connected(server, "any", **{"X-Forkpoint-Policy": "nowait"}) as connection:
        assert policy_of(server, streamed(connection, turn("countdown"))) == "nowait"


def test_a_model_names_its_policy_in_a_custom_parameter(server: Server, webui: httpx.Client) -> None:
    """Custom parameters are merged into the body; a value that is JSON is sent as what it says."""
    written = '{"name": "mine", "rules": [{"do": {"temperature": 0.5}}]}'
    for custom, policy in (("nowait", "nowait"), (json.loads(written), "mine")):
        events = streamed(webui, turn("countdown", policy=custom, forks=True))
        assert policy_of(server, events) == policy


def test_titles_are_generated_without_a_stream(webui: httpx.Client) -> None:
    """What it asks in the background: the same model, one message, no stream."""
    body = {
        "model": "countdown:nowait", "messages": [MESSAGES[-1]], "stream": False, "max_completion_tokens": 30,
    }  # fmt: skip
    answer = webui.post("/chat/completions", content=json.dumps(body)).raise_for_status().json()
    assert answer["choices"][0]["message"]["role"] == "assistant"
    assert answer["usage"]["completion_tokens"] <= 30


def test_an_experiment_takes_its_users_as_units(server: Server, webui: httpx.Client) -> None:
    """Each user whom it forwards stays in one arm."""
    arms = [{"name": "control", "weight": 0.5}, {"name": "nowait", "policy": "nowait", "weight": 0.5}]
    webui.post("/experiments", json={"name": "webui", "unit": "X-OpenWebUI-User-Id", "arms": arms}).raise_for_status()
    under: dict[str, set[str | None]] = {"ada": set(), "grace": set(), "edsger": set()}
    try:
        for user in [*under, *under]:
            with connected(server, "any", **{"X-OpenWebUI-User-Id": user}) as connection:
                under[user].add(policy_of(server, streamed(connection, turn("countdown", forks=True, max_tokens=5))))
        assert all(len(policies) == 1 for policies in under.values())
        assert set.union(*under.values()) <= {None, "nowait"}
        until(lambda: counted(webui) == (6, 3))
    finally:
        webui.patch("/experiments/webui", json={"status": "paused"}).raise_for_status()
        webui.delete("/experiments/webui").raise_for_status()


def counted(connection: httpx.Client) -> tuple[int, int]:
    """The requests and the users of the experiment, once they are recorded."""
    figures = connection.get("/experiments/webui").raise_for_status().json()["figures"]
    return sum(arm["requests"] for arm in figures), sum(arm["units"] for arm in figures)
