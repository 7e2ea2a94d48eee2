"""Policies where token ids go in and out, and on conversations in a batch; log probabilities of what was sampled."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from tests.integration.puzzles import MESSAGES
from tests.processes.forkpoint_server import Server

GENERATE, BATCH = "/inference/v1/generate", "/v1/chat/completions/batch"
FORCE: dict[str, Any] = {"rules": [{"when": {"after_token": 3, "at_most": 1}, "do": {"force": {"text": " Wait"}}}]}
BRANCH: dict[str, Any] = {"rules": [{"when": {"entropy_above": 0.3}, "do": {"branch": {"depth": 1, "min_gap": 4}}}]}
SAMPLING: dict[str, Any] = {"max_tokens": 24, "temperature": 1.0, "seed": 1}


@pytest.fixture(scope="module")
def http(server: Server) -> Any:
    with httpx.Client(base_url=server.url, timeout=120) as http:
        yield http


@pytest.fixture(scope="module")
def prompt(http: httpx.Client) -> list[int]:
    rendered = http.post("/v1/chat/completions/render", json={"model": "countdown", "messages": MESSAGES}).json()
    found: list[int] = rendered["token_ids"]
    return found


def generate(
    http: httpx.Client, prompt: list[int], headers: dict[str, str] | None = None, *,
    sampling: dict[str, Any] | None = None, **body: Any,
) -> httpx.Response:  # fmt: skip
    whole = {"model": "countdown", "token_ids": prompt, "sampling_params": {**SAMPLING, **(sampling or {})}, **body}
    return http.post(GENERATE, json=whole, headers=headers or {})


def answer(response: httpx.Response) -> dict[str, Any]:
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


def test_a_policy_by_body_header_and_model(http: httpx.Client, prompt: list[int]) -> None:
    by_body = answer(generate(http, prompt, policy="nowait"))
    by_header = answer(generate(http, prompt, {"X-Forkpoint-Policy": "nowait"}))
    by_model = answer(generate(http, prompt, model="countdown:nowait"))
    tokens = [one["choices"][0]["token_ids"] for one in (by_body, by_header, by_model)]
    assert tokens[0] == tokens[1] == tokens[2]
    assert [one["forkpoint"]["policy"] for one in (by_body, by_header, by_model)] == ["nowait"] * 3
    assert by_body["forkpoint"]["tokens"] == 24
    trace = http.get(f"/v1/forks/{by_body['request_id']}").json()
    assert trace["choices"][0]["token_ids"] == tokens[0]


def test_a_forced_token_is_in_the_token_ids_and_certain(http: httpx.Client, prompt: list[int]) -> None:
    found = answer(generate(http, prompt, policy=FORCE, policy_logprobs=True, sampling={"n": 2}))
    for choice, scored in zip(found["choices"], found["forkpoint"]["choices"], strict=True):
        assert scored["token_ids"] == choice["token_ids"]
        assert scored["written"] == [3]
        assert scored["policy_logprobs"][3] == 0.0
        assert scored["logprobs"][3] < -1
        others = [index for index in range(24) if index != 3]
        assert [scored["policy_logprobs"][index] for index in others] == pytest.approx(
            [scored["logprobs"][index] for index in others], abs=1e-4
        ), "at temperature 1 nothing else was changed"


def test_a_stream_has_the_object_once(http: httpx.Client, prompt: list[int]) -> None:
    body = {"model": "countdown", "token_ids": prompt, "sampling_params": SAMPLING, "policy": FORCE, "stream": True}
    with http.stream("POST", GENERATE, json={**body, "policy_logprobs": True}) as response:
        lines = [line[6:] for line in response.iter_lines() if line.startswith("data: ")]
    assert lines[-1] == "[DONE]"
    chunks = [json.loads(line) for line in lines[:-1]]
    tokens = [token for chunk in chunks for choice in chunk["choices"] for token in choice["token_ids"]]
    (summary,) = [chunk["forkpoint"] for chunk in chunks if "forkpoint" in chunk]
    assert summary["choices"][0]["token_ids"] == tokens
    assert None not in summary["choices"][0]["policy_logprobs"]
    assert http.get(f"/v1/forks/{chunks[0]['request_id']}").status_code == 200


def test_answers_that_branch(http: httpx.Client, prompt: list[int]) -> None:
    """A branch has its parent's values up to where it leaves, and its first token's as its parent would sample it."""
    found = answer(generate(http, prompt, policy=BRANCH, policy_logprobs=True, sampling={"n": 3, "max_tokens": 60}))
    scored = found["forkpoint"]["choices"]
    assert [choice["token_ids"] for choice in found["choices"]] == [choice["token_ids"] for choice in scored]
    trace = http.get(f"/v1/forks/{found['request_id']}").json()
    branches = [choice for choice in scored if choice["written"]]
    assert branches
    for choice in branches:
        (first,) = choice["written"]
        assert choice["policy_logprobs"][first] < 0
        assert choice["policy_logprobs"][first] == pytest.approx(choice["logprobs"][first], abs=1e-3)
        assert None not in choice["policy_logprobs"]
        assert any(other["token_ids"][:first] == choice["token_ids"][:first] for other in scored if other is not choice)
    assert trace["forkpoint"]["choices"] == scored, "the trace has the same numbers later"


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"policy": "no-such"}, "policy"),
        ({"policy": {"rules": [{"do": {"nothing": {}}}]}}, "policy.rules[0].do.nothing"),
        ({"policy": "branch", "sampling": {"n": 99}}, "sampling_params.n"),
        ({"policy": "branch-first", "sampling": {"n": 2}}, "sampling_params.n"),
        ({"policy": BRANCH, "sampling": {"presence_penalty": 1.0}}, "policy"),
        ({"policy_logprobs": True, "policy": "nowait", "sampling": {"presence_penalty": 1.0}}, "policy_logprobs"),
        ({"policy_logprobs": "yes"}, "policy_logprobs"),
        ({"policy": "nowait", "token_ids": []}, None),
        ({"policy": "nowait", "token_ids": [10**9]}, None),
        ({"policy": "nowait", "sampling_params": 5}, None),
    ],
)
def test_wrong_input_is_an_error(
    http: httpx.Client, prompt: list[int], wrong: dict[str, Any], field: str | None
) -> None:
    response = generate(http, prompt, **wrong)
    assert response.status_code == 400, response.text
    if field is not None:
        assert response.json()["error"]["param"] == field


def test_conversations_in_a_batch_each_have_a_choice(http: httpx.Client) -> None:
    body: dict[str, Any] = {"model": "countdown", "messages": [MESSAGES, MESSAGES], **SAMPLING}
    found = answer(http.post(BATCH, json={**body, "policy": FORCE, "policy_logprobs": True}))
    assert [choice["index"] for choice in found["choices"]] == [0, 1]
    assert found["forkpoint"]["tokens"] == 48
    assert [choice["written"] for choice in found["forkpoint"]["choices"]] == [[3], [3]]
    response = http.post(BATCH, json={**body, "policy": "branch"})
    assert (response.status_code, response.json()["error"]["param"]) == (400, "policy")
    assert "forkpoint" not in answer(http.post(BATCH, json=body)), "the server's default policy branches"


def test_tokens_that_are_no_whole_characters_have_their_bytes(http: httpx.Client, prompt: list[int]) -> None:
    found = answer(generate(http, prompt, policy="observe", forks=True, sampling={"max_tokens": 60}))
    points = found["forkpoint"]["fork_points"]
    assert points
    tokens = found["choices"][0]["token_ids"]
    for point in points:
        assert point["token_id"] == tokens[point["index"]]
        assert bytes(point["bytes"]).decode(errors="replace") == point["token"]
        assert all({"token", "token_id", "bytes", "probability"} <= set(one) for one in point["alternatives"])
