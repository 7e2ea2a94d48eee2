"""Requests that generate: Forkpoint's fields in the body, the default policy, and typed responses."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx2
import openai
import pytest

from forkpoint_clients import AsyncForkpoint, Forkpoint, forkpoint_of, policy, rule, use
from forkpoint_clients.responses import ForkpointCompletion, ForkpointResponse, ForkpointTextCompletion
from forkpoint_policies.spec import Suppress, When

SUMMARY = {
    "model": "m", "policy": "nowait", "digest": "ff5a1685", "tokens": 3, "forks": 1, "mean_entropy": 0.5,
    "threshold": 0.672, "interventions": {"suppress": {"fired": 3, "effect": 1.5}},
}  # fmt: skip
CHAT: dict[str, Any] = {
    "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "m", "forkpoint": SUMMARY,
    "choices": [
        {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "17", "reasoning": "3 + 14"}}
    ],
}  # fmt: skip
CHUNKS = [
    {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m",
     "choices": [{"index": 0, "delta": {"reasoning": "3 +"}}]},
    {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [],
     "forkpoint": SUMMARY},
]  # fmt: skip
TEXT: dict[str, Any] = {
    "id": "cmpl-1", "object": "text_completion", "created": 1, "model": "m", "forkpoint": SUMMARY,
    "choices": [{"index": 0, "finish_reason": "stop", "text": "17"}],
}  # fmt: skip
RESPONSE: dict[str, Any] = {
    "id": "resp_1", "object": "response", "created_at": 1, "model": "m", "output": [], "parallel_tool_calls": False,
    "tool_choice": "auto", "tools": [], "forkpoint": SUMMARY,
}  # fmt: skip
PUZZLE: Any = [{"role": "user", "content": "Use 3, 7, 2 to make 17."}]
Bodies = list[dict[str, Any]]


def transport(bodies: Bodies) -> httpx2.MockTransport:
    def answer(request: httpx2.Request) -> httpx2.Response:
        body = json.loads(request.content)
        bodies.append(body)
        if body.get("stream"):
            events = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in CHUNKS) + "data: [DONE]\n\n"
            return httpx2.Response(200, text=events, headers={"content-type": "text/event-stream"})
        answers = {"/v1/chat/completions": CHAT, "/v1/completions": TEXT, "/v1/responses": RESPONSE}
        return httpx2.Response(200, json=answers[request.url.path])

    return httpx2.MockTransport(answer)


def client(bodies: Bodies, default: Any = None) -> Forkpoint:
    return Forkpoint(http_client=httpx2.Client(transport=transport(bodies)), policy=default, max_retries=0)


def test_fields_are_arguments_of_each_create() -> None:
    bodies: Bodies = []
    with client(bodies) as own:
        chat = own.chat.completions.create(
            model="m", messages=PUZZLE, policy="nowait", forks=True, policy_logprobs=True, stop_in="answer"
        )
        text = own.completions.create(model="m", prompt="a", policy="nowait", extra_body={"top_k": 5})
        response = own.responses.create(model="m", input="a", policy=use("alpha-one", shadow=True, alpha=1.2))
    fields = {"policy": "nowait", "forks": True, "policy_logprobs": True, "stop_in": "answer"}
    assert bodies == [
        {"model": "m", "messages": PUZZLE, **fields},
        {"model": "m", "prompt": "a", "policy": "nowait", "top_k": 5},
        {"model": "m", "input": "a", "policy": {"use": "alpha-one", "with": {"alpha": 1.2}, "shadow": True}},
    ]
    assert isinstance(chat, ForkpointCompletion)
    assert chat.choices[0].message.reasoning == "3 + 14"
    assert isinstance(text, ForkpointTextCompletion)
    assert isinstance(response, ForkpointResponse)
    for one in (chat, text, response):
        assert forkpoint_of(one).interventions["suppress"].effect == 1.5
        assert forkpoint_of(one)["interventions"]["suppress"]["effect"] == 1.5, "as when it was a dictionary"


async def test_the_asynchronous_client_sends_the_same() -> None:
    bodies: Bodies = []
    async with AsyncForkpoint(http_client=httpx2.AsyncClient(transport=transport(bodies)), max_retries=0) as own:
        chat = await own.chat.completions.create(model="m", messages=PUZZLE, policy="nowait", forks=True)
        text = await own.completions.create(model="m", prompt="a", policy="nowait")
        response = await own.responses.create(model="m", input="a", policy="nowait")
        chunks = [
            chunk
            async for chunk in await own.chat.completions.create(
                model="m", messages=PUZZLE, policy="nowait", stream=True
            )
        ]
    assert [body["policy"] for body in bodies] == ["nowait"] * 4
    for one in (chat, text, response, chunks[1]):
        assert forkpoint_of(one).policy == "nowait"


def test_a_stream_is_typed() -> None:
    bodies: Bodies = []
    with client(bodies) as own:
        first, last = own.chat.completions.create(model="m", messages=PUZZLE, policy="nowait", stream=True)
    assert first.choices[0].delta.reasoning == "3 +"
    assert first.forkpoint is None
    assert forkpoint_of(last).tokens == 3
    assert bodies[0]["policy"] == "nowait"


def test_a_built_policy() -> None:
    bodies: Bodies = []
    built = policy(
        rule(when=When(entropy_above="fork"), do=Suppress(connectors=("reflection",), bias=-8.0)), name="calm"
    )
    with client(bodies) as own:
        own.chat.completions.create(model="m", messages=PUZZLE, policy=built)
    suppress = {"suppress": {"connectors": ["reflection"], "bias": -8.0}}
    rules = [{"when": {"entropy_above": "fork"}, "do": suppress}]
    assert bodies[0]["policy"]["rules"] == rules
    assert bodies[0]["policy"]["name"] == "calm"


DEFAULTED: list[tuple[str, Callable[[Forkpoint], object], Any]] = [
    ("a request that names none", lambda own: own.chat.completions.create(model="m", messages=PUZZLE), "calm"),
    ("parse", lambda own: own.chat.completions.parse(model="m", messages=PUZZLE), "calm"),
    ("raw", lambda own: own.chat.completions.with_raw_response.create(model="m", messages=PUZZLE), "calm"),
    ("a copy", lambda own: own.with_options(timeout=5).completions.create(model="m", prompt="a"), "calm"),
    ("a copy's own", lambda own: own.copy(policy="other").completions.create(model="m", prompt="a"), "other"),
    ("one that names another", lambda own: own.responses.create(model="m", input="a", policy="nowait"), "nowait"),
    ("one that names none", lambda own: own.responses.create(model="m", input="a", policy="none"), "none"),
    (
        "in extra_body",
        lambda own: own.responses.create(model="m", input="a", extra_body={"policy": "nowait"}),
        "nowait",
    ),
    (
        "in a header",
        lambda own: own.responses.create(model="m", input="a", extra_headers={"X-Forkpoint-Policy": "nowait"}),
        None,
    ),
]


@pytest.mark.parametrize(("call", "expected"), [case[1:] for case in DEFAULTED], ids=[case[0] for case in DEFAULTED])
def test_the_default_policy(call: Callable[[Forkpoint], object], expected: str | None) -> None:
    bodies: Bodies = []
    with client(bodies, default="calm") as own:
        call(own)
    assert bodies[0].get("policy") == expected


def test_a_policy_object_can_be_the_default() -> None:
    bodies: Bodies = []
    with client(bodies, default=use("alpha-one", alpha=1.2)) as own:
        own.chat.completions.create(model="m", messages=PUZZLE)
    assert bodies[0]["policy"] == {"use": "alpha-one", "with": {"alpha": 1.2}}


def test_a_response_of_a_plain_client() -> None:
    plain = openai.OpenAI(base_url="http://h/v1", api_key="none", http_client=httpx2.Client(transport=transport([])))
    assert forkpoint_of(plain.completions.create(model="m", prompt="a")).forks == 1


def test_a_response_without_figures() -> None:
    with pytest.raises(LookupError, match="forks=True"):
        forkpoint_of(ForkpointCompletion.model_validate({**CHAT, "forkpoint": None}))


def test_the_server_and_the_key_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert str(Forkpoint().base_url) == "http://127.0.0.1:8000/v1/"
    monkeypatch.setenv("FORKPOINT_SERVER", "http://gpu-7:9000")
    monkeypatch.setenv("FORKPOINT_API_KEY", "k")
    for own in (Forkpoint(), AsyncForkpoint()):
        assert (str(own.base_url), own.api_key) == ("http://gpu-7:9000/v1/", "k")
    assert str(Forkpoint(base_url="http://h:1").base_url) == "http://h:1/v1/"
    assert Forkpoint(api_key="other").api_key == "other"
