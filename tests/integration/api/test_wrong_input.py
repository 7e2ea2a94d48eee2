"""Wrong input: 400, the OpenAI error shape, the field, and what would be right."""

from __future__ import annotations

import json
import re
from typing import Any

import httpx
import openai
import pytest

from tests.integration.puzzles import MESSAGES
from tests.processes.forkpoint_server import Server


def suppress(**target: Any) -> dict[str, Any]:
    return {"rules": [{"do": {"suppress": target}}]}


WRONG: list[tuple[str, Any, str, str]] = [
    ("unknown policy", "nope", "policy", "there are .* more"),
    ("unknown field", {"rulez": [], "rules": []}, "policy.rulez", "here one can write .*rules"),
    ("unknown field in an action", suppress(wordz=["a"]), "policy.rules[0].do.suppress.wordz", "words"),
    ("wrong type", suppress(words=["a"], bias="low"), "policy.rules[0].do.suppress.bias", "number"),
    ("empty connector list", suppress(connectors=[]), "policy.rules[0].do.suppress", "non-empty list"),
    ("unknown family", suppress(connectors=["doubt"]), "policy.rules[0].do.suppress", "reflection"),
    ("token id out of range", suppress(token_ids=[10**6]), "policy.rules[0].do.suppress.token_ids[0]", "0 to"),
    (
        "a word of an unpaired surrogate",
        suppress(words=["ok", "\ud800"]),
        "policy.rules[0].do.suppress.words[1]",
        "valid",
    ),
    ("positive bias", suppress(words=["a"], bias=1), "policy.rules[0].do.suppress.bias", "less than 0"),
    ("no action", {"rules": [{"do": {}}]}, "policy.rules[0].do", "exactly one"),
    ("two actions", {"rules": [{"do": {"temperature": 1.0, "observe": {}}}]}, "policy.rules[0].do", "exactly one"),
    ("a list", [], "policy", "name or a policy object"),
    ("parameters", {"use": "nowait", "with": {"alpha": 1}}, "policy.with.alpha", "it has none"),
]


@pytest.mark.parametrize(("policy", "field", "right"), [case[1:] for case in WRONG], ids=[case[0] for case in WRONG])
def test_in_the_body(server: Server, policy: Any, field: str, right: str) -> None:
    response = httpx.post(
        f"{server.api}/chat/completions",
        content=json.dumps(
            {"model": "countdown", "messages": MESSAGES, "policy": policy}
        ),  # also what httpx would not encode
        headers={"content-type": "application/json"},
    )
    check(response, field, right)


def check(response: httpx.Response, field: str, right: str) -> None:
    assert response.status_code == 400
    error = response.json()["error"]
    assert set(error) >= {"message", "type", "param", "code"}
    assert error["param"] == field
    assert error["message"].startswith(field)
    assert re.search(right, error["message"]), error["message"]


def test_nan_bias(server: Server) -> None:
    policy = b'{"rules": [{"do": {"suppress": {"words": ["a"], "bias": NaN}}}]}'
    body = b'{"model": "countdown", "prompt": "x", "policy": ' + policy + b"}"
    response = httpx.post(f"{server.api}/completions", content=body, headers={"content-type": "application/json"})
    check(response, "policy.rules[0].do.suppress.bias", "finite|less than")


def test_two_places_that_disagree(server: Server) -> None:
    body = {"model": "countdown", "messages": MESSAGES, "policy": "nowait"}
    response = httpx.post(f"{server.api}/chat/completions", json=body, headers={"X-Forkpoint-Policy": "observe"})
    check(response, "policy", "one place")
    body = {"model": "countdown:observe", "messages": MESSAGES, "policy": "nowait"}
    check(httpx.post(f"{server.api}/chat/completions", json=body), "policy", "one place")


def test_two_places_that_agree(client: openai.OpenAI) -> None:
    response = client.chat.completions.create(
        model="countdown:observe",
        messages=MESSAGES,
        extra_headers={"X-Forkpoint-Policy": "observe"},
        extra_body={"policy": "observe"},
    )
    assert response.choices


@pytest.mark.parametrize("path", ["/v1/embeddings", "/tokenize", "/v1/chat/completions/render"])
def test_a_policy_where_nothing_is_generated(server: Server, path: str) -> None:
    response = httpx.post(
        f"{server.url}{path}", json={"model": "countdown", "input": "x", "prompt": "x", "policy": "nowait"}
    )
    check(response, "policy", "/v1/chat/completions")


@pytest.mark.parametrize(
    ("field", "changed", "header"),
    [
        ("policy", {"policy": "nowait"}, None),
        ("model", {"model": "countdown:nowait"}, None),
        ("forks", {"forks": True}, None),
        ("x-forkpoint-policy", {}, "nowait"),
    ],
)
def test_where_a_policy_would_be_passed_over(
    server: Server, field: str, changed: dict[str, Any], header: str | None
) -> None:
    """Routes that evaluate the model in other ways: no way of naming a policy is ignored in silence."""
    for path in ("/invocations", "/generative_scoring"):
        body = {"model": "countdown", "messages": MESSAGES, **changed}
        headers = {"X-Forkpoint-Policy": header} if header else {}
        check(httpx.post(f"{server.url}{path}", json=body, headers=headers), field, "policies work on")


def test_beam_search_and_background(server: Server) -> None:
    body = {"model": "countdown", "prompt": "x", "use_beam_search": True, "policy": "nowait"}
    check(httpx.post(f"{server.api}/completions", json=body), "policy", "use_beam_search")
    body = {"model": "countdown", "input": "x", "background": True, "policy": "nowait"}
    check(httpx.post(f"{server.api}/responses", json=body), "policy", "background")


def test_unknown_alias_and_header(server: Server) -> None:
    check(httpx.post(f"{server.api}/completions", json={"model": "countdown:nowiat", "prompt": "x"}), "model", "nowait")
    response = httpx.post(
        f"{server.api}/completions",
        json={"model": "countdown", "prompt": "x"},
        headers={"X-Forkpoint-Policy": "nowiat"},
    )
    check(response, "X-Forkpoint-Policy", "nowait")


def test_what_is_not_ours_to_judge_is_left_to_vllm(server: Server) -> None:
    assert (
        httpx.post(
            f"{server.api}/chat/completions", content=b"{", headers={"content-type": "application/json"}
        ).status_code
        == 400
    )
    assert (
        httpx.post(f"{server.api}/chat/completions", json={"model": "other:nowait", "messages": MESSAGES}).status_code
        == 404
    )


@pytest.mark.parametrize("token", [576, -1, 2**31, 2**63, 10**30, -(10**30)])
def test_a_prompt_token_that_the_model_lacks(server: Server, token: int) -> None:
    """As stock vLLM answers, with a policy that follows words, and with one that branches; its trace can be read."""
    plain = httpx.post(f"{server.api}/completions", json={"model": "countdown", "prompt": [4, token]})
    assert plain.status_code == 400
    for policy in ("nowait", "branch"):
        identity = f"lacking-{policy}-{token}"
        body = {"model": "countdown", "prompt": [4, token], "policy": policy, "request_id": identity}
        answer = httpx.post(f"{server.api}/completions", json=body)
        assert (answer.status_code, answer.json()["error"]["message"]) == (400, plain.json()["error"]["message"])
        assert httpx.get(f"{server.api}/forks/{identity}").status_code in (200, 404)
    forks = {"model": "countdown", "prompt": [4, token], "completion": "x"}
    assert httpx.post(f"{server.api}/forks", json=forks).status_code == 400
    assert httpx.post(f"{server.api}/forks", json={**forks, "prompt": "x", "completion": [token]}).status_code == 400
