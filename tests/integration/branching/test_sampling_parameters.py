"""Every sampling parameter with every kind of tree: the engine takes what a tree makes of it, and serves on."""

from __future__ import annotations

import json
import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from fuzz.valid_requests import PROMPT, valid_request
from tests.processes.forkpoint_server import Server

from .test_branching import PUZZLE

TREES: dict[str, Any] = {
    "branch": {"branch": {"min_gap": 4, "select": "majority"}},
    "probe": {"probe": {"tokens": 5, "agreement": 2}},
    "sample": {"sample": {"answers": 4, "warm_up": 2}},
    "resume": {"resume": {"budget_tokens": 40}},
}
PARAMETERS: dict[str, dict[str, Any]] = {
    "more tokens than a probe has": {"min_tokens": 60, "max_tokens": 80},
    "as many as there may be": {"min_tokens": 40, "max_tokens": 40},
    "stop strings": {"stop": ["3", "Wait"], "min_tokens": 10},
    "log probabilities": {"logprobs": True, "top_logprobs": 3, "min_tokens": 10},
    "log probabilities of the prompt": {"prompt_logprobs": 2},
    "no end": {"ignore_eos": True, "min_tokens": 39, "seed": -1},
    "stop tokens": {"stop_token_ids": [5, 6], "min_tokens": 3, "include_stop_str_in_output": True},
    "a bias": {"logit_bias": {"5": -100}, "allowed_token_ids": list(range(500)), "top_k": 5, "min_p": 0.1},
    "greedy": {"temperature": 0.0, "min_tokens": 20},
}


def is_served(server: Server) -> bool:
    """Whether a request without a policy gets an answer."""
    body = {"model": "countdown", "prompt": "Use 3", "max_tokens": 1, "policy": "none"}
    return httpx.post(f"{server.api}/completions", json=body, timeout=30).status_code == 200


@pytest.mark.parametrize("action", TREES)
@pytest.mark.parametrize("name", PARAMETERS)
def test_a_tree_takes_its_clients_parameters(server: Server, action: str, name: str) -> None:
    body = {"model": "countdown", "messages": PUZZLE, "max_tokens": 40, "seed": 1, **PARAMETERS[name]}
    answer = httpx.post(
        f"{server.api}/chat/completions", json={**body, "policy": {"rules": [{"do": TREES[action]}]}}, timeout=60
    )
    assert answer.status_code == 200, answer.text
    assert is_served(server)
    if "min_tokens" in body and "stop" not in body and "stop_token_ids" not in body:
        assert answer.json()["usage"]["completion_tokens"] >= body["min_tokens"]


@pytest.mark.parametrize("action", TREES)
def test_a_tree_takes_an_action_with_a_state(server: Server, action: str) -> None:
    sigma = {"adaptive_top_n_sigma": {"sure": 1.5, "unsure": 0.5, "tokens": 8}}
    body = {"model": "countdown", "messages": PUZZLE, "max_tokens": 120, "seed": 1, "n": 1}
    policy = {"rules": [{"do": sigma}, {"do": TREES[action]}]}
    answer = httpx.post(f"{server.api}/chat/completions", json={**body, "policy": policy}, timeout=60)
    assert answer.status_code == 200, answer.text
    summary = answer.json()["forkpoint"]
    assert summary["complete"]
    assert summary["interventions"]["adaptive_top_n_sigma"]["effect"] > 0
    assert is_served(server)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("policy", ["none", "nowait"])
@pytest.mark.parametrize(("limit", "tokens"), [("allowed_token_ids", [5, 6]), ("stop_token_ids", list(range(5, 500)))])
def test_limits_that_leave_a_grammar_no_token_are_named(
    server: Server, policy: str, stream: bool, limit: str, tokens: list[int]
) -> None:
    """vLLM ends the request with an error, and would answer 500. A grammar holds after the reasoning only."""
    grammar = {"structured_outputs": {"choice": ["yes", "no"]}, limit: tokens}
    body = {"model": "countdown", "prompt": f"{PROMPT}</think>", "max_tokens": 8, "policy": policy, "stream": stream}
    answer = httpx.post(f"{server.api}/completions", json={**body, **grammar}, timeout=60)
    events = [line.removeprefix("data: ") for line in answer.text.splitlines() if '"error"' in line]
    error = json.loads(events[0] if stream else answer.text)["error"]
    assert (error["code"], error["param"]) == (400, limit), answer.text
    assert answer.status_code == (200 if stream else 400)
    assert is_served(server)


@pytest.mark.parametrize("policy", ["none", "nowait"])
@pytest.mark.parametrize("budget", [0, 5])
def test_a_thinking_budget_beside_a_grammar_without_reasoning_is_named(
    server: Server, policy: str, budget: int
) -> None:
    """The embedded model's template begins a reasoning whether or not the request switches it off."""
    body = {
        "model": "countdown", "messages": PUZZLE, "max_tokens": 60, "policy": policy,
        "structured_outputs": {"regex": "[a-z ]{40}"}, "thinking_token_budget": budget,
    }  # fmt: skip
    reasons = httpx.post(f"{server.api}/chat/completions", json=body, timeout=60)
    assert reasons.status_code == 200, reasons.text
    off = {**body, "chat_template_kwargs": {"enable_thinking": False}}
    answer = httpx.post(f"{server.api}/chat/completions", json=off, timeout=60)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "thinking_token_budget"), answer.text
    assert is_served(server)


@pytest.mark.parametrize(
    "numbers", [range(300), pytest.param(range(300, 10_300), marks=[pytest.mark.soak, pytest.mark.timeout(7200)])]
)
def test_random_valid_requests(server: Server, numbers: range) -> None:
    """Each is answered, or refused with the field that does not go with another; and then another client is served."""
    with httpx.Client(base_url=server.url, timeout=120) as client, ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(lambda number: _answer(client, number), numbers))
    assert statuses.count(200) > len(numbers) / 3
    assert httpx.get(f"{server.url}/health").status_code == 200


def _answer(client: httpx.Client, number: int) -> int:
    """The status of the request of this number, after which a plain request is answered."""
    request = valid_request(number)
    said = f"request {number}: {json.dumps(request.body)}"
    answer = client.post(request.path, json=request.body)
    assert answer.status_code in (200, 400), f"{said}: {answer.status_code} {answer.text}"
    if answer.status_code == 200:  # in a stream the error of a grammar without a token comes after the status
        errors = [
            json.loads(line[6:])["error"] for line in answer.text.splitlines() if re.match('data: {"error"', line)
        ]
        assert all(error["code"] == 400 for error in errors), f"{said}: {answer.text}"
    plain = client.post("/v1/completions", json={"model": "countdown", "prompt": "Use 3", "max_tokens": 1})
    assert plain.status_code == 200, f"after {said}: {plain.text}"
    return answer.status_code
