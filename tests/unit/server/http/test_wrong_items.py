"""Bodies with many wrong items, on vLLM's own request models."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.types import Message
from vllm.entrypoints.anthropic.protocol import AnthropicMessagesRequest
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.entrypoints.openai.responses.protocol import ResponsesRequest

from forkpoint_policies.spec import InputError
from forkpoint_server.http.body import read_body
from forkpoint_server.http.wrong_items import FEW, check_items

APP = FastAPI()


@APP.post("/v1/chat/completions")
async def chat(body: ChatCompletionRequest) -> None: ...


@APP.post("/v1/responses")
async def responses(body: ResponsesRequest) -> None: ...


@APP.post("/v1/messages")
async def messages(body: AnthropicMessagesRequest) -> None: ...


@APP.post("/invocations")
async def invocations() -> None: ...


MODEL = {"model": "m", "max_tokens": 5}
MANY = FEW + 1


async def check(path: str, data: Any) -> None:
    raw = json.dumps(data).encode()

    async def receive() -> Message:
        return {"type": "http.request", "body": raw, "more_body": False}

    scope = {"type": "http", "method": "POST", "path": path, "root_path": "", "headers": [], "app": APP}
    check_items(scope, await read_body(receive))


@pytest.mark.parametrize(
    ("path", "data", "field"),
    [
        ("/v1/responses", {"input": [{}] * MANY}, "input[0]"),
        ("/v1/responses", {"input": [1] * MANY}, "input[0]"),
        ("/v1/responses", {"input": [{"role": "user", "content": "x"}] * MANY + [{}]}, f"input[{MANY}]"),
        ("/v1/responses", {"input": [{"type": "message", "role": "user", "content": [{}] * MANY}]}, "input[0]"),
        ("/v1/chat/completions", {"messages": [{}] * MANY}, "messages[0]"),
        ("/v1/messages", {"messages": [{}] * MANY}, "messages[0]"),
        ("/invocations", {"messages": [{}] * MANY}, "messages[0]"),
    ],
)
async def test_the_first_wrong_item_of_many_is_refused(path: str, data: dict[str, Any], field: str) -> None:
    with pytest.raises(InputError) as caught:
        await check(path, {**MODEL, **data})
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("path", "data"),
    [
        ("/v1/responses", {"input": [{}] * FEW}),
        ("/v1/responses", {"input": [{"role": "user", "content": "x"}] * MANY}),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "x"}] * MANY}),
        ("/v1/nothing", {"messages": [{}] * MANY}),
        ("/invocations", {"prompts": [{}] * MANY}),
        ("/v1/chat/completions", [{}] * MANY),
    ],
)
async def test_what_vllm_can_read_or_answers_cheaply_is_left_to_it(path: str, data: Any) -> None:
    await check(path, {**MODEL, **data} if isinstance(data, dict) else data)


@pytest.mark.parametrize("wrong", [5, True, "json", [], [[{}]], 2.5])
async def test_structured_outputs_are_an_object(wrong: Any) -> None:
    for path in ("/v1/chat/completions", "/invocations"):
        with pytest.raises(InputError, match="must be an object") as raised:
            await check(path, {"messages": [], "structured_outputs": wrong})
        assert raised.value.field == "structured_outputs"
        for right in (None, {}, {"choice": ["a"]}):
            await check(path, {"messages": [], "structured_outputs": right})
