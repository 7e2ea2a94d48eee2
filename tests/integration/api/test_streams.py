"""Streams under a policy look like stock vLLM's to any client, and show that they go on while answers are voted on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import groupby
from typing import Any

import anthropic
import httpx
import openai
import pytest

from tests.integration.puzzles import MESSAGES
from tests.processes.forkpoint_server import Server

CHAT, COMPLETIONS = "/chat/completions", "/completions"
BODIES: dict[str, dict[str, Any]] = {
    CHAT: {"messages": MESSAGES, "max_tokens": 30},
    COMPLETIONS: {"prompt": "Use 3, 7, 2 to make 17.", "max_tokens": 30},
    "/responses": {"input": "Use 3, 7, 2 to make 17.", "max_output_tokens": 30},
    "/messages": {"messages": MESSAGES, "max_tokens": 30},
}
OBSERVED = {"X-Forkpoint-Policy": "observe"}
VOTE = {"rules": [{"do": {"sample": {"answers": 4, "warm_up": 2, "extract": "last_number"}}}]}


@pytest.fixture
def http(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.api, timeout=300) as client:
        yield client


def stream(http: httpx.Client, path: str, headers: dict[str, str] | None = None, **more: Any) -> httpx.Response:
    body = {"model": "countdown", "stream": True, "temperature": 0, **BODIES[path], **more}
    return http.post(path, json=body, headers=headers).raise_for_status()


def events(response: httpx.Response) -> list[Any]:
    """The data of each event, [DONE] as it is."""
    lines = [line.removeprefix("data: ") for line in response.text.splitlines() if line.startswith("data: ")]
    return [line if line == "[DONE]" else json.loads(line) for line in lines]


def shape(event: Any) -> Any:
    """What an event is, without its content and without our object."""
    if not isinstance(event, dict):
        return event
    choice = (event.get("choices") or [{}])[0]
    return event.get("type"), len(event.get("choices") or []), choice.get("finish_reason"), set(event) - {"forkpoint"}


def shapes(stream: list[Any]) -> list[Any]:
    """The shapes in their order, runs of equal ones once: how many tokens a piece of text has is a matter of time."""
    return [kind for kind, _ in groupby(map(shape, stream))]


@pytest.mark.parametrize("usage", [False, True])
@pytest.mark.parametrize("path", BODIES)
def test_a_policy_that_a_gateway_chose_leaves_stocks_events(http: httpx.Client, path: str, usage: bool) -> None:
    more: dict[str, Any] = {"stream_options": {"include_usage": True}} if usage and path in (CHAT, COMPLETIONS) else {}
    plain, observed = events(stream(http, path, **more)), events(stream(http, path, OBSERVED, **more))
    assert shapes(observed) == shapes(plain)
    holders = [event for event in observed if '"forkpoint":' in json.dumps(event)]
    last = observed[-2] if observed[-1] == "[DONE]" else observed[-1]
    assert holders == [last]


@pytest.mark.parametrize("usage", [False, True])
def test_a_chunk_of_its_own_only_on_request(http: httpx.Client, usage: bool) -> None:
    """The chunk with the usage stays the last one."""
    more: dict[str, Any] = {"stream_options": {"include_usage": True}} if usage else {}
    chunks = events(stream(http, CHAT, forks=True, **more))[:-1]
    own = chunks.pop(-2 if usage else -1)
    assert (own["choices"], len(own["forkpoint"]["fork_points"])) == ([], own["forkpoint"]["forks"])
    assert shapes(chunks) == shapes(events(stream(http, CHAT, **more))[:-1])


def test_headers_of_event_streams(http: httpx.Client) -> None:
    ours = {"x-accel-buffering": "no", "cache-control": "no-cache"}
    for path in BODIES:
        observed = stream(http, path, OBSERVED).headers
        assert {name: observed.get(name) for name in ours} == ours
        assert not ours.keys() & stream(http, path).headers.keys()
    response = stream(http, CHAT, OBSERVED)
    trace = http.get(f"/forks/{events(response)[0]['id']}", params={"stream": True}).headers
    assert {name: trace.get(name) for name in ours} == ours


@pytest.mark.parametrize("path", BODIES)
def test_every_event_has_the_model_that_was_requested(http: httpx.Client, path: str) -> None:
    for alias in ("countdown:observe", "countdown:none"):
        for event in events(stream(http, path, model=alias)):
            holder = event.get("response") or event.get("message") or event if isinstance(event, dict) else {}
            assert holder.get("model", alias) == alias
        body = {"model": alias, **BODIES[path]}
        answer = http.post(path, json=body).raise_for_status().json()
        assert answer["model"] == alias
        assert answer.get("forkpoint", {"model": "countdown"})["model"] == "countdown"


def test_silence_while_answers_are_voted_on(http: httpx.Client) -> None:
    """Comments before the first event, and events as without them; SDKs do not see them."""
    for path in (CHAT, "/responses", "/messages"):
        size: dict[str, Any] = {"max_output_tokens": 400} if path == "/responses" else {"max_tokens": 400}
        response = stream(http, path, policy=VOTE, temperature=1, **size)
        assert ": keep-alive\n\n" in response.text
        assert events(response)
    assert ": " not in {line[:2] for line in stream(http, CHAT, OBSERVED).text.splitlines()}


def test_sdks_read_a_stream_with_signs_of_life(client: openai.OpenAI, server: Server) -> None:
    chat: Any = {"model": "countdown", "messages": MESSAGES, "max_tokens": 400, "extra_body": {"policy": VOTE}}
    chunks = list(client.chat.completions.create(**chat, stream=True))
    assert all(chunk.choices for chunk in chunks)
    assert chunks[-1].model_extra is not None
    assert chunks[-1].model_extra["forkpoint"]["branches"] >= 1
    with (
        anthropic.Anthropic(base_url=server.url, api_key="none", max_retries=0) as claude,
        claude.messages.stream(**chat) as streamed,
    ):
        assert streamed.get_final_message().content
