"""`GET /v1/forks`: the recent requests, and the redirects to the console."""

from __future__ import annotations

import threading
from typing import Any

import httpx

from tests.processes.forkpoint_server import API_KEY, Server

PROMPT = "Use 3, 7, 2 to make 17."
BODY = {"model": "countdown", "messages": [{"role": "user", "content": PROMPT}], "seed": 1, "max_tokens": 40}


def generate(server: Server, name: str, **more: Any) -> str:
    headers = {"X-Request-Id": name}
    response = httpx.post(f"{server.api}/chat/completions", json={**BODY, **more}, headers=headers, timeout=60)
    response_id: str = response.raise_for_status().json()["id"]
    return response_id


def listed(server: Server, **filters: Any) -> dict[str, Any]:
    found: dict[str, Any] = httpx.get(f"{server.api}/forks", params=filters).raise_for_status().json()
    return found


def test_a_row_says_what_its_trace_says(server: Server) -> None:
    response_id = generate(server, "list-one", policy="nowait")
    row = next(row for row in listed(server, policy="nowait", limit=5)["data"] if row["id"] == response_id)
    trace = httpx.get(f"{server.api}/forks/{response_id}").raise_for_status().json()
    summary = trace["forkpoint"]
    assert (row["policy"], row["model"], row["prompt"]) == ("nowait", "countdown", PROMPT)
    assert (row["tokens"], row["forks"]) == (summary["tokens"], summary["forks"])
    assert row["forks_share"] == round(summary["forks"] / summary["tokens"], 4)
    assert abs(row["effect"] - sum(one["effect"] for one in summary["interventions"].values())) < 0.001
    assert row["finish_reasons"] == ["length"]
    assert (row["running"], row["digest"]) == (False, trace["digest"])


def test_newest_first_in_pages(server: Server) -> None:
    ids = [generate(server, f"list-{number}", forks=True, max_tokens=3) for number in range(3)][::-1]
    first = listed(server, limit=2)
    assert [row["id"] for row in first["data"]] == ids[:2]
    assert first["has_more"]
    second = listed(server, limit=1, after=ids[1], policy="none")
    assert [row["id"] for row in second["data"]] == ids[2:]
    refused = httpx.get(f"{server.api}/forks", params={"after": "unheard-of"})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "after")
    assert httpx.get(f"{server.api}/forks", params={"limit": 0}).status_code == 400


def test_a_running_request_is_listed_first(server: Server) -> None:
    started, leave = threading.Event(), threading.Event()

    def run() -> None:
        body = {**BODY, "forks": True, "stream": True, "ignore_eos": True, "max_tokens": 1500}
        with httpx.stream("POST", f"{server.api}/chat/completions", json=body, timeout=60) as response:
            for _ in response.iter_lines():
                started.set()
                if leave.is_set():
                    return

    thread = threading.Thread(target=run)
    thread.start()
    try:
        assert started.wait(60)
        rows = listed(server, running=True)["data"]
        assert [(row["running"], row["forks"], row["prompt"]) for row in rows] == [(True, None, PROMPT)]
        assert listed(server, limit=1)["data"][0]["id"] == rows[0]["id"]
    finally:
        leave.set()
        thread.join()


def test_it_needs_the_key_as_traces_do(other_server: Server) -> None:
    assert httpx.get(f"{other_server.api}/forks").status_code == 401
    headers = {"Authorization": f"Bearer {API_KEY}"}
    assert httpx.get(f"{other_server.api}/forks", headers=headers).raise_for_status().json()["object"] == "list"


def test_the_root_and_a_trailing_slash_lead_to_the_console(server: Server) -> None:
    for path in ("/", "/forkpoint/"):
        with httpx.Client(follow_redirects=True) as client:
            response = client.get(f"{server.url}{path}")
        assert (response.status_code, response.url.path) == (200, "/forkpoint")
