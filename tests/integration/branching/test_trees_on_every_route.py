"""Trees on each route, streamed and not, with the options that combine with them: the same answers each time."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Any

import anthropic
import openai
import pytest

from tests.integration.puzzles import MESSAGES
from tests.processes.forkpoint_server import Server

from .test_branching import SHALLOW, generate, text

ONE_OF_THREE = {  # only the trunk is left, and all are waited for: which answer is ahead does not matter
    "rules": [
        {
            "when": {"entropy_above": 0.3},
            "do": {"branch": {"depth": 1, "min_gap": 4, "max_branches": 3, "select": "likelihood"}},
        }
    ]
}
PROMPT = "<|im_start|>user\nUse 3, 7, 2 to make 17.<|im_end|>\n<|im_start|>assistant\n<think>"
CALL = '<tool_call>{"name":"add","arguments":{"a":3}}</tool_call>'
CALLING = {
    "rules": [
        {"when": {"entropy_above": 0.3, "region": "reasoning"}, "do": {"branch": {"depth": 1, "min_gap": 4}}},
        {"when": {"region": "answer", "at_most": 1}, "do": {"force": {"text": CALL}}},
    ]
}
"""The embedded model was never taught to call a tool, so that a policy writes it."""
ADD: Any = {
    "type": "function",
    "function": {"name": "add", "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}}},
}


def parts(delta: Any) -> str:
    return ((delta.model_extra or {}).get("reasoning") or "") + (delta.content or "")


def test_chat_responses_and_messages_give_the_same_answer_streamed_or_not(
    client: openai.OpenAI, server: Server
) -> None:
    limits: dict[str, Any] = {"model": "countdown", "extra_body": {"policy": ONE_OF_THREE, "temperature": 0.0}}
    chat: Any = {**limits, "messages": MESSAGES, "max_tokens": 200}
    whole = client.chat.completions.create(**chat)
    found = {"chat": text(whole.choices[0])}
    assert (whole.model_extra or {})["forkpoint"]["branches"] == 2
    found["chat, streamed"] = "".join(
        parts(choice.delta) for chunk in client.chat.completions.create(**chat, stream=True) for choice in chunk.choices
    )
    body: Any = {**limits, "input": MESSAGES[0]["content"], "max_output_tokens": 200}
    found["responses"] = written(client.responses.create(**body))
    found["responses, streamed"] = written(list(client.responses.create(**body, stream=True))[-1].response)
    with anthropic.Anthropic(base_url=server.url, api_key="none", max_retries=0) as claude:
        message = claude.messages.create(**chat)
        found["messages"] = "".join(said(block) for block in message.content)
        assert (message.model_extra or {})["forkpoint"]["branches"] == 2
        events = list(claude.messages.create(**chat, stream=True))
    found["messages, streamed"] = "".join(said(event.delta) for event in events if event.type == "content_block_delta")
    assert len(found["chat"]) > 100
    assert set(found.values()) == {found["chat"]}, found


def said(part: Any) -> str:
    """What a block or a delta of a message says, thought or answered."""
    return str(getattr(part, "thinking", "") or getattr(part, "text", "") or "")


def written(response: Any) -> str:
    """All text of a response, its reasoning first."""
    return "".join(part.text for item in response.output for part in item.content or ())


def test_completions_in_a_stream(client: openai.OpenAI) -> None:
    body: Any = {
        "model": "countdown", "prompt": PROMPT, "n": 3, "max_tokens": 60, "seed": 3, "temperature": 1.0, "logprobs": 1,
        "extra_body": {"policy": SHALLOW},
    }  # fmt: skip
    whole = client.completions.create(**body)
    pieces: defaultdict[int, str] = defaultdict(str)
    tokens: defaultdict[int, list[str]] = defaultdict(list)
    for chunk in client.completions.create(**body, stream=True):
        for choice in chunk.choices:
            pieces[choice.index] += choice.text
            tokens[choice.index] += choice.logprobs.tokens or [] if choice.logprobs else []
    assert dict(pieces) == {choice.index: choice.text for choice in whole.choices}
    assert len(pieces) == 3
    assert dict(tokens) == {choice.index: choice.logprobs and choice.logprobs.tokens for choice in whole.choices}


def test_log_probabilities_and_stop_strings_in_a_stream(client: openai.OpenAI) -> None:
    options: dict[str, Any] = {
        "n": 4,
        "logprobs": True,
        "top_logprobs": 2,
        "stop": ["Wait", "Therefore"],
        "max_tokens": 200,
    }
    whole = generate(client, SHALLOW, **options)
    pieces: defaultdict[int, str] = defaultdict(str)
    reported: defaultdict[int, list[tuple[str, float]]] = defaultdict(list)
    reasons: dict[int, str] = {}
    for chunk in generate(client, SHALLOW, stream=True, **options):
        for choice in chunk.choices:
            pieces[choice.index] += parts(choice.delta)
            reported[choice.index] += [
                (one.token, one.logprob) for one in (choice.logprobs.content or [] if choice.logprobs else [])
            ]
            reasons[choice.index] = choice.finish_reason or reasons.get(choice.index, "")
    for choice in whole.choices:
        assert pieces[choice.index] == text(choice)
        assert [token for token, _ in reported[choice.index]] == [one.token for one in choice.logprobs.content]
        assert [nats for _, nats in reported[choice.index]] == pytest.approx(
            [one.logprob for one in choice.logprobs.content], abs=1e-3
        )
        assert reasons[choice.index] == choice.finish_reason
    assert len(pieces) == 4


def test_a_tool_call_in_each_answer(client: openai.OpenAI) -> None:
    options: dict[str, Any] = {"n": 3, "max_tokens": 400, "tools": [ADD], "messages": MESSAGES}
    whole = generate(client, CALLING, **options)
    ended = [choice for choice in whole.choices if choice.finish_reason != "length"]
    assert len(ended) > 1
    for choice in ended:
        (call,) = choice.message.tool_calls
        assert (call.function.name, json.loads(call.function.arguments)) == ("add", {"a": 3})
        assert choice.finish_reason == "tool_calls"
    called: defaultdict[int, str] = defaultdict(str)
    for chunk in generate(client, CALLING, stream=True, **options):
        for choice in chunk.choices:
            for call in choice.delta.tool_calls or ():
                called[choice.index] += call.function.arguments or ""
    assert {index: json.loads(arguments) for index, arguments in called.items()} == {
        choice.index: {"a": 3} for choice in ended
    }


ENDED = [*ONE_OF_THREE["rules"], {"when": {"region": "reasoning", "after_token": 60}, "do": {"end_reasoning": {}}}]
"""At temperature 0 the embedded model would go round in circles."""


def test_a_tool_call_in_the_answer_of_responses_and_messages(client: openai.OpenAI, server: Server) -> None:
    limits: dict[str, Any] = {
        "model": "countdown",
        "extra_body": {"policy": {"rules": [*ENDED, CALLING["rules"][1]]}, "temperature": 0.0},
    }
    function = ADD["function"]
    body: Any = {
        **limits, "input": MESSAGES[0]["content"], "max_output_tokens": 400,
        "tools": [{"type": "function", **function}],
    }  # fmt: skip
    whole = client.responses.create(**body)
    assert (whole.model_extra or {})["forkpoint"]["branches"] == 2
    streamed = list(client.responses.create(**body, stream=True))[-1]
    assert streamed.type == "response.completed"
    for response in (whole, streamed.response):
        (call,) = [item for item in response.output if item.type == "function_call"]
        assert (call.name, json.loads(call.arguments)) == ("add", {"a": 3})
    tools: Any = [{"name": function["name"], "input_schema": function["parameters"]}]
    with anthropic.Anthropic(base_url=server.url, api_key="none", max_retries=0) as claude:
        message = claude.messages.create(**limits, messages=MESSAGES, max_tokens=400, tools=tools)
        assert (message.model_extra or {})["forkpoint"]["branches"] == 2
        (used,) = [block for block in message.content if block.type == "tool_use"]
        assert (used.name, used.input) == ("add", {"a": 3})
        with claude.messages.stream(**limits, messages=MESSAGES, max_tokens=400, tools=tools) as stream:
            (used,) = [block for block in stream.get_final_message().content if block.type == "tool_use"]
        assert (used.name, used.input) == ("add", {"a": 3})


def test_log_probabilities_on_responses_and_stop_strings_on_messages(client: openai.OpenAI, server: Server) -> None:
    limits: dict[str, Any] = {"model": "countdown", "extra_body": {"policy": {"rules": ENDED}, "temperature": 0.0}}
    body: Any = {
        **limits, "input": MESSAGES[0]["content"], "max_output_tokens": 400,
        "include": ["message.output_text.logprobs"], "top_logprobs": 2,
    }  # fmt: skip
    whole = client.responses.create(**body)
    streamed = list(client.responses.create(**body, stream=True))[-1].response
    for response in (whole, streamed):
        assert (response.model_extra or {})["forkpoint"]["branches"] == 2
        (message,) = [item for item in response.output if item.type == "message"]
        (part,) = message.content
        assert part.text in "".join(one.token for one in part.logprobs)  # vLLM reports the reasoning's as well
        assert all(len(one.top_logprobs) >= 2 for one in part.logprobs)
    with anthropic.Anthropic(base_url=server.url, api_key="none", max_retries=0) as claude:
        message = claude.messages.create(
            **limits, messages=MESSAGES, max_tokens=400, stop_sequences=["Wait", "Therefore"]
        )
        assert (message.model_extra or {})["forkpoint"]["branches"] == 2
        assert message.stop_reason == "stop_sequence"
        assert message.stop_sequence in ("Wait", "Therefore")
        assert message.stop_sequence not in "".join(said(block) for block in message.content)
