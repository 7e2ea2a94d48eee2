"""When a request with a tree ends, so do all requests of its tree; one branch's end is not the request's error."""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import httpx
import openai
import pytest

from tests.processes.forkpoint_server import Server

from .test_branching import PUZZLE, SHALLOW, generate

AT_ONCE = 8  # the branching server's --max-live-branches
GAUGES = ("vllm:num_requests_running", "vllm:num_requests_waiting{")
LONG: dict[str, Any] = {
    "model": "countdown", "messages": PUZZLE, "n": 6, "max_tokens": 1500, "ignore_eos": True, "temperature": 1.0,
    "seed": 5, "policy": SHALLOW,
}  # fmt: skip


def inside(server: Server) -> float:
    """The requests in the engine."""
    return sum(value for name, value in server.metrics().items() if name.startswith(GAUGES))


def wait_until(server: Server, least: float, most: float) -> None:
    deadline = time.monotonic() + 60
    while not least <= (found := inside(server)) <= most:
        assert time.monotonic() < deadline, f"{found} requests are in the engine"
        time.sleep(0.05)


@pytest.fixture(autouse=True)
def nothing_else_runs(server: Server) -> None:
    wait_until(server, 0, 0)


def test_a_client_whose_deadline_passes_ends_every_branch(server: Server) -> None:
    """It waits for a whole answer, and hangs up."""
    with ThreadPoolExecutor(1) as pool, httpx.Client(timeout=3.0) as client:
        pending: Future[Any] = pool.submit(client.post, f"{server.api}/chat/completions", json=LONG)
        wait_until(server, 2, 6)
        with pytest.raises(httpx.ReadTimeout):
            pending.result()
    wait_until(server, 0, 0)


def test_a_stream_that_is_left_ends_every_branch(client: openai.OpenAI, server: Server) -> None:
    stream = generate(client, SHALLOW, {"ignore_eos": True}, n=6, stream=True, max_tokens=1500)
    seen: set[int] = set()
    for chunk in stream:
        seen |= {choice.index for choice in chunk.choices}
        if len(seen) > 3:
            break
    wait_until(server, 4, 6)
    stream.close()
    wait_until(server, 0, 0)


@pytest.mark.parametrize("stream", [False, True])
def test_the_engines_abort_of_a_request_ends_every_branch(server: Server, stream: bool) -> None:
    """By the name that its client gave it; what was written so far is the answer.

    An answer may have all its tokens before the abort arrives.
    """
    name = f"aborted-{stream}"
    with ThreadPoolExecutor(1) as pool, httpx.Client(timeout=120) as client:
        headers = {"X-Request-Id": name}
        pending: Future[Any] = pool.submit(
            client.post, f"{server.api}/chat/completions", json={**LONG, "stream": stream}, headers=headers
        )
        wait_until(server, 4, 6)
        abort(server, [f"chatcmpl-{name}"])
        answer = pending.result().raise_for_status()
    wait_until(server, 0, 0)
    nodes = httpx.get(f"{server.api}/forks/chatcmpl-{name}").raise_for_status().json()["tree"]["nodes"]
    complete = [node for node in nodes if node["tokens_shared"] + node["tokens_generated"] == LONG["max_tokens"]]
    assert {node["ended"] for node in nodes if node not in complete} == {"abort"}
    assert len(nodes) > 3
    if not stream:
        reasons = {choice["finish_reason"] for choice in answer.json()["choices"]}
        assert reasons == ({"abort", "length"} if complete else {"abort"})


def test_branches_that_the_engine_ends_do_not_end_the_request(server: Server) -> None:
    """All but the trunk are aborted, each by its own name in the engine."""
    with ThreadPoolExecutor(1) as pool, httpx.Client(timeout=120) as client:
        body = {**LONG, "max_tokens": 600}
        pending: Future[Any] = pool.submit(
            client.post, f"{server.api}/chat/completions", json=body, headers={"X-Request-Id": "pruned"}
        )
        wait_until(server, 4, 6)
        abort(server, [f"{handle}_chatcmpl-pruned" for handle in range(20_000)])
        answer = pending.result().raise_for_status().json()
    wait_until(server, 0, 0)
    nodes = httpx.get(f"{server.api}/forks/{answer['id']}").raise_for_status().json()["tree"]["nodes"]
    assert nodes[0]["ended"] == "length"
    assert sum(node["ended"] == "abort" for node in nodes[1:]) >= 3
    reasons = [choice["finish_reason"] for choice in answer["choices"]]
    assert reasons == [node["finish_reason"] for node in nodes]
    assert answer["forkpoint"]["branches"] == len(nodes) - 1


def abort(server: Server, names: list[str]) -> None:
    httpx.post(f"{server.url}/inference/v1/abort_requests", json={"request_ids": names}, timeout=60).raise_for_status()


def test_what_stops_a_tree_early_leaves_none_behind(client: openai.OpenAI, server: Server) -> None:
    cases: list[tuple[Any, dict[str, Any]]] = [
        (SHALLOW, {"n": 4, "stop": ["Wait", "Therefore"]}),
        ("first-at-forks", {}),
        ({"use": "deer", "with": {"probability": 0.0}}, {}),
    ]
    for policy, options in cases:
        response = generate(client, policy, max_tokens=600, **options)
        assert response.choices[0].finish_reason in ("stop", "length")
        wait_until(server, 0, 0)


def test_under_load_trees_stay_smaller_and_nothing_queues(client: openai.OpenAI, server: Server) -> None:
    """24 concurrent trees, each for eight answers: at most eight branches run, over all requests."""
    trees = 24
    before, most = server.metrics(), 0.0
    with ThreadPoolExecutor(trees) as pool:
        pending = [
            pool.submit(generate, client, "branch-at-forks", n=8, seed=seed, max_tokens=200, timeout=300)
            for seed in range(trees)
        ]
        while not all(one.done() for one in pending):
            most = max(most, inside(server))
            time.sleep(0.05)
    assert AT_ONCE < most <= trees + AT_ONCE
    responses = [one.result() for one in pending]
    assert all(len(response.choices) == 8 for response in responses), "those without room were sampled later"
    assert all(response.model_extra["forkpoint"]["branches"] == len(response.choices) - 1 for response in responses)
    refused = 0
    for response in responses:
        tree = client.get(f"/forks/{response.id}", cast_to=dict[str, Any])["tree"]
        assert response.model_extra["forkpoint"]["warnings"] == []
        refused += tree["refused"]
    wait_until(server, 0, 0)
    counted = 'forkpoint_branches_total{outcome="refused",policy="branch-at-forks"}'
    assert server.metrics()[counted] - before.get(counted, 0.0) == refused > 0
