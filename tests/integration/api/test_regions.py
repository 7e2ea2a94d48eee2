"""Reasoning, answer and tool calls on a server with a reasoning parser: counts, protected arguments, stop strings."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest

from tests.integration.puzzles import MESSAGES
from tests.processes.forkpoint_server import Server

CALL = '<tool_call>\n{"name": "f"}\n</tool_call>'
Json = dict[str, Any]


def forcing(text: str, **when: Any) -> Json:
    return {"rules": [{"when": {"after_token": 4, "at_most": 1, **when}, "do": {"force": {"text": text}}}]}


CONTINUED: Json = {"continue_final_message": True, "add_generation_prompt": False, "max_tokens": 12}
CASES: dict[str, Json] = {
    "whole": {"policy": "observe"},
    "cut": {"policy": "observe", "max_tokens": 10},
    "tool call": {"policy": forcing(CALL), "max_tokens": 80},
    "two ends": {"policy": forcing("</think>a</think>b<think>c</think>")},
    "end of reasoning": {"policy": "reasoning-cap"},
    "no reasoning": {"policy": "observe", "chat_template_kwargs": {"enable_thinking": False}},
    "no effort": {"policy": "observe", "reasoning_effort": "none"},
    "closed in the prompt": {
        "policy": "observe",
        "messages": [*MESSAGES, {"role": "assistant", "content": "Then 7 * 2 + 3 works.</think>7 *"}],
        **CONTINUED,
    },
    "open in the prompt": {
        "policy": "observe",
        "messages": [*MESSAGES, {"role": "assistant", "content": "<think>Then 7 * 2"}],
        **CONTINUED,
    },
    "two choices": {"policy": "observe", "n": 2, "temperature": 1},
}  # fmt: skip


@pytest.fixture(scope="module")
def http(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=120) as http:
        yield http


def chat(http: httpx.Client, **body: Any) -> Json:
    answer = http.post(
        "/v1/chat/completions",
        json={"model": "countdown", "messages": MESSAGES, "seed": 1, "temperature": 0, "max_tokens": 300, **body},
    )
    assert answer.status_code == 200, answer.text
    found: Json = answer.json()
    return found


def traced(http: httpx.Client, response: Json) -> list[Json]:
    choices: list[Json] = http.get(f"/v1/forks/{response['id']}").raise_for_status().json()["choices"]
    return choices


@pytest.mark.parametrize("case", CASES)
def test_reasoning_tokens_equal_those_of_the_usage(http: httpx.Client, case: str) -> None:
    response = chat(http, **CASES[case])
    assert (
        response["forkpoint"]["reasoning_tokens"]
        == (response["usage"]["completion_tokens_details"]["reasoning_tokens"])
    )


@pytest.mark.parametrize("case", CASES)
def test_and_those_of_a_stream(client: openai.OpenAI, case: str) -> None:
    body = {"model": "countdown", "messages": MESSAGES, "seed": 1, "temperature": 0, "max_tokens": 300, **CASES[case]}
    extra = {key: body.pop(key) for key in ("policy", "chat_template_kwargs", *CONTINUED) if key in body}
    extra["max_tokens"] = extra.get("max_tokens", body.pop("max_tokens", 300))
    chunks = list(
        client.chat.completions.create(**body, stream=True, stream_options={"include_usage": True}, extra_body=extra)
    )
    usage = next(chunk.usage for chunk in chunks if chunk.usage is not None)
    figures = next(found for chunk in chunks if (found := (chunk.model_extra or {}).get("forkpoint")))
    assert usage.completion_tokens_details is not None
    assert figures["reasoning_tokens"] == usage.completion_tokens_details.reasoning_tokens


@pytest.mark.parametrize("more", [{}, {"max_output_tokens": 10}, {"reasoning": {"effort": "none"}}])
def test_and_those_of_responses(http: httpx.Client, more: Json) -> None:
    body = {"model": "countdown", "input": "Use 3, 7, 2 to make 17.", "policy": "observe", "temperature": 0, **more}
    response = http.post("/v1/responses", json=body).raise_for_status().json()
    counted = response["usage"]["output_tokens_details"]["reasoning_tokens"]
    assert response["forkpoint"]["reasoning_tokens"] == counted


def test_a_tool_call_ends_the_reasoning(http: httpx.Client) -> None:
    response = chat(http, policy=forcing(CALL), max_tokens=80)
    (choice,) = traced(http, response)
    written = "".join(choice["tokens"])
    before = next(number for number in range(len(choice["tokens"])) if "<" in "".join(choice["tokens"][: number + 1]))
    assert CALL in written
    assert choice["in_reasoning"] == [True] * before + [False] * (len(choice["tokens"]) - before)
    assert response["choices"][0]["message"]["reasoning"] == "".join(choice["tokens"][:before])


ACTIONS: tuple[Json, ...] = (
    {"force": {"text": "no"}},
    {"suppress": {"words": ["3", "7"]}},
    {"amplify": {"words": ["3"], "bias": 9.0}},
    {"temperature": 2.0},
    {"truncate": {"top_k": 1}},
    {"end_reasoning": {}},
    {"stop": {}},
)


@pytest.mark.parametrize(
    ("region", "do"),
    [
        (region, do)
        for do in ACTIONS
        for region in ("any", "answer", "reasoning")
        if region != "answer" or "end_reasoning" not in do  # there is no such policy
    ],
)
def test_nothing_is_done_in_a_tool_call(http: httpx.Client, region: str, do: Json) -> None:
    """The forced call is left open, so that what follows are its arguments."""
    opening = '<tool_call>\n{"name": "f", "arguments": '
    first = forcing(opening)["rules"][0]
    second = {"when": {"after_token": 6, "region": region}, "do": do}
    alone = chat(http, policy={"rules": [first]}, max_tokens=70)
    both = chat(http, policy={"rules": [first, second]}, max_tokens=70)
    assert both["choices"][0]["message"]["content"] == alone["choices"][0]["message"]["content"]
    assert opening in both["choices"][0]["message"]["content"]
    watched = {"when": {"after_token": 6}, "do": {"observe": {}}}
    response = chat(http, policy={"rules": [first, watched]}, max_tokens=70)
    (choice,) = traced(http, response)
    assert choice["actions"][-1] == ["observe"], "observation goes on"


# stop strings


def answer_of(response: Json) -> tuple[str, str, str, str | None]:
    choice = response["choices"][0]
    message = choice["message"]
    return message["reasoning"], message["content"] or "", choice["finish_reason"], choice["stop_reason"]


EASY: Json = {"messages": [{"role": "user", "content": "Use 3, 7, 2 to make 17."}], "temperature": 1, "max_tokens": 400}
"""With seed 1, the reasoning has a product, and so has the answer."""

PLAIN: dict[str, Json] = {
    "no policy": {},
    "observed": {"policy": "observe"},
    "a policy": {"policy": {"rules": [{"when": {"region": "answer"}, "do": {"truncate": {"top_k": 1}}}]}},
}
TREES: dict[str, Json] = {
    "branches": {"policy": {"rules": [{"when": {"entropy_above": 0.5, "region": "reasoning"}, "do": {"branch": {}}}]}},
    "probes": {"policy": {"rules": [{"when": {"every": 40, "after_token": 1}, "do": {"probe": {"agreement": 9}}}]}},
}


@pytest.mark.parametrize("kind", PLAIN)
def test_stop_strings_are_kept_to_the_answer(http: httpx.Client, kind: str) -> None:
    whole = answer_of(chat(http, **EASY, **PLAIN[kind]))
    assert "*" in whole[0], "it occurs in the reasoning too"
    assert "*" in whole[1]
    stopped = answer_of(chat(http, **EASY, **PLAIN[kind], stop=["*"], stop_in="answer"))
    assert stopped == (whole[0], whole[1].partition("*")[0], "stop", "*")
    included = answer_of(
        chat(http, **EASY, **PLAIN[kind], stop=["*"], stop_in="answer", include_stop_str_in_output=True)
    )
    assert included[1] == whole[1].partition("*")[0] + "*"
    anywhere = answer_of(chat(http, **EASY, **PLAIN[kind], stop=["*"]))
    assert anywhere[1] == ""


@pytest.mark.parametrize("kind", TREES)
def test_and_in_trees(http: httpx.Client, kind: str) -> None:
    stopped = answer_of(chat(http, **EASY, **TREES[kind], stop=["*", "+", "-"], stop_in="answer"))
    assert stopped[1].strip().isdigit(), "the answer up to its first operator"
    assert stopped[2] == "stop"
    assert stopped[3] in ("*", "+", "-")


@pytest.mark.parametrize("kind", [*PLAIN, *TREES])
def test_and_in_a_stream(client: openai.OpenAI, http: httpx.Client, kind: str) -> None:
    more = {**PLAIN, **TREES}[kind]
    whole = answer_of(chat(http, **EASY, **more, stop=["* 2 +"], stop_in="answer"))
    chunks = client.chat.completions.create(
        model="countdown", seed=1, stop=["* 2 +"], stream=True, extra_body={**more, "stop_in": "answer"}, **EASY
    )
    deltas = [choice for chunk in chunks for choice in chunk.choices]
    reasoning = "".join((choice.delta.model_extra or {}).get("reasoning") or "" for choice in deltas)
    content = "".join(choice.delta.content or "" for choice in deltas)
    assert content
    assert (reasoning, content) == whole[:2] or kind in TREES  # which answer of a tree ends first may differ
    assert deltas[-1].finish_reason == "stop"


@pytest.mark.parametrize("policy", [None, "observe"])
def test_every_choice_stops_in_its_answer(http: httpx.Client, policy: str | None) -> None:
    named = {} if policy is None else {"policy": policy}
    whole = chat(http, n=3, temperature=1, **named)
    stopped = chat(http, n=3, temperature=1, stop=["*", "+"], stop_in="answer", **named)
    for before, after in zip(whole["choices"], stopped["choices"], strict=True):
        assert (after["message"]["content"] or "") == (before["message"]["content"] or "").split("*")[0].split("+")[0]
    assert (policy is None) == ("forkpoint" not in stopped)


def test_a_response_without_a_policy_is_as_vllm_gives_it(http: httpx.Client) -> None:
    """Where the stop string occurs nowhere."""
    names = ("choices", "usage")
    stopped, plain = chat(http, stop=["zzz"], stop_in="answer", logprobs=True), chat(http, logprobs=True)
    assert {name: stopped[name] for name in names} == {name: plain[name] for name in names}
    assert "forkpoint" not in stopped


@pytest.mark.parametrize("policy", [{}, {"policy": "observe"}, {"policy": forcing("so")}, {"policy": "branch"}])
def test_stop_strings_stop_under_ignore_eos(http: httpx.Client, policy: Json) -> None:
    response = chat(http, **policy, stop=["="], ignore_eos=True)
    assert (response["choices"][0]["finish_reason"], response["choices"][0]["stop_reason"]) == ("stop", "=")


@pytest.mark.parametrize("more", [{}, {"n": 2, "temperature": 1}])
def test_a_policy_stops_under_ignore_eos(http: httpx.Client, more: Json) -> None:
    stop = {"rules": [{"when": {"after_token": 20}, "do": {"stop": {}}}]}
    response = chat(http, policy=stop, ignore_eos=True, **more)
    assert [choice["finish_reason"] for choice in response["choices"]] == ["stop"] * more.get("n", 1)
    assert response["usage"]["completion_tokens"] == 21 * more.get("n", 1)
    ignoring = chat(http, policy="observe", ignore_eos=True, max_tokens=200)
    assert ignoring["usage"]["completion_tokens"] == 200
