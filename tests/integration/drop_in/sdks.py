"""The same calls through SDKs that know nothing of Forkpoint, and what a program sees of them, as comparable data."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import openai
from pydantic import BaseModel

from .calls import ANSWER, CALLED, EASIER, EASY, PUZZLE, QUERY, TOOLS

MODEL = "countdown"
GREEDY: dict[str, Any] = {"model": MODEL, "temperature": 0, "max_tokens": 400}
AT_ONCE: dict[str, Any] = {**GREEDY, "max_tokens": 200, "logit_bias": ANSWER}


class Pair(BaseModel):
    """What a structured output is parsed into."""

    left: bool
    right: bool


def said(message: Any) -> dict[str, Any]:
    """What a message of a chat says, without made-up names."""
    calls = [(call.function.name, json.loads(call.function.arguments)) for call in message.tool_calls or ()]
    return {"content": message.content, "reasoning": getattr(message, "reasoning", None), "calls": calls}


def whole_answer(answer: Any) -> dict[str, Any]:
    """A whole answer to a chat."""
    return {
        "choices": [{**said(choice.message), "finish_reason": choice.finish_reason} for choice in answer.choices],
        "tokens": answer.usage.completion_tokens,
        "model": answer.model,
    }


def gathered(chunks: list[Any]) -> dict[str, Any]:
    """What a stream of a chat comes to."""
    deltas = [choice.delta for chunk in chunks for choice in chunk.choices]
    usages = [chunk.usage for chunk in chunks if getattr(chunk, "usage", None) is not None]
    return {
        "content": "".join(delta.content or "" for delta in deltas),
        "reasoning": "".join(getattr(delta, "reasoning", None) or "" for delta in deltas),
        "arguments": "".join(call.function.arguments or "" for delta in deltas for call in delta.tool_calls or ()),
        "names": [call.function.name for delta in deltas for call in delta.tool_calls or () if call.function.name],
        "finish_reason": [choice.finish_reason for chunk in chunks for choice in chunk.choices if choice.finish_reason],
        "tokens": usages[-1].completion_tokens,
    }


STREAM: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": True}}


def openai_chat(url: str) -> Any:
    return whole_answer(_openai(url).chat.completions.create(messages=EASY, **GREEDY))


def openai_stream(url: str) -> Any:
    return gathered(list(_openai(url).chat.completions.create(messages=EASY, **GREEDY, **STREAM)))


def openai_async(url: str) -> Any:
    async def gather_answers() -> list[dict[str, Any]]:
        made: Any = openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
        async with made as client:
            answers = (client.chat.completions.create(messages=messages, **GREEDY) for messages in (EASY, EASIER))
            chunks = [chunk async for chunk in await client.chat.completions.create(messages=EASY, **GREEDY, **STREAM)]
            return [*(whole_answer(answer) for answer in await asyncio.gather(*answers)), gathered(chunks)]

    return asyncio.run(gather_answers())


def openai_tools(url: str) -> Any:
    found = whole_answer(
        _openai(url).chat.completions.create(messages=QUERY, tools=TOOLS, tool_choice="required", **AT_ONCE)
    )
    assert found["choices"][0]["calls"]
    return found


def openai_tools_in_a_stream(url: str) -> Any:
    chunks = _openai(url).chat.completions.create(
        messages=QUERY, tools=TOOLS, extra_body={"structured_outputs": {"regex": CALLED}}, **AT_ONCE, **STREAM
    )
    found = gathered(list(chunks))
    assert found["names"] == ["solve"]
    return found


def openai_parsed(url: str) -> Any:
    (choice,) = _openai(url).chat.completions.parse(messages=QUERY, response_format=Pair, **AT_ONCE).choices
    assert isinstance(choice.message.parsed, Pair)
    return choice.message.parsed.model_dump(), choice.finish_reason


def openai_events(url: str) -> Any:
    """The SDK's own accumulation of a stream."""
    with _openai(url).chat.completions.stream(messages=QUERY, response_format=Pair, **AT_ONCE) as stream:
        kinds = list(dict.fromkeys(event.type for event in stream))
        parsed = stream.get_final_completion().choices[0].message.parsed
    assert isinstance(parsed, Pair)
    return kinds, parsed.model_dump()


def openai_responses(url: str) -> Any:
    response = _openai(url).responses.create(model=MODEL, input=PUZZLE, temperature=0, max_output_tokens=60)
    texts = [content.text for item in response.output for content in getattr(item, "content", None) or ()]
    return response.status, [item.type for item in response.output], texts


def openai_completions(url: str) -> Any:
    answer = _openai(url).completions.create(prompt=PUZZLE, logprobs=2, seed=3, **{**GREEDY, "temperature": 1.0})
    return answer.choices[0].text, answer.choices[0].logprobs, answer.usage


def openai_errors(url: str) -> Any:
    found = []
    for options in ({"model": "gpt-5"}, {"top_p": 2}, {"n": 0}):
        try:
            _openai(url).chat.completions.create(messages=QUERY, **{**GREEDY, **options})
        except openai.APIStatusError as error:
            found.append((type(error).__name__, error.status_code, error.code, error.param, error.message))
    assert len(found) == 3
    return found


def openai_models(url: str) -> Any:
    return [model.id for model in _openai(url).models.list() if ":" not in model.id]


@cache
def _openai(url: str) -> Any:
    """A client for all calls: one for each would be garbage with an open socket, of which Python warns."""
    return openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=300)


def litellm_chat(url: str) -> Any:
    return whole_answer(_litellm().completion(messages=EASY, **_at(url, GREEDY)))


def litellm_stream(url: str) -> Any:
    return gathered(list(_litellm().completion(messages=EASY, **_at(url, GREEDY), **STREAM)))


def litellm_async(url: str) -> Any:
    async def gather_answers() -> list[dict[str, Any]]:
        answers = (_litellm().acompletion(messages=messages, **_at(url, GREEDY)) for messages in (EASY, EASIER))
        whole = [whole_answer(answer) for answer in await asyncio.gather(*answers)]
        chunks = [chunk async for chunk in await _litellm().acompletion(messages=EASY, **_at(url, GREEDY), **STREAM)]
        return [*whole, gathered(chunks)]

    return asyncio.run(gather_answers())


def litellm_tools(url: str) -> Any:
    found = whole_answer(
        _litellm().completion(messages=QUERY, tools=TOOLS, tool_choice="required", **_at(url, AT_ONCE))
    )
    assert found["choices"][0]["calls"]
    return found


def litellm_parsed(url: str) -> Any:
    answer = _litellm().completion(messages=QUERY, response_format=Pair, **_at(url, AT_ONCE))
    return Pair.model_validate_json(answer.choices[0].message.content).model_dump()


def litellm_text(url: str) -> Any:
    answer = _litellm().text_completion(prompt=PUZZLE, **_at(url, GREEDY, "text-completion-openai"))
    return answer.choices[0].text, answer.choices[0].finish_reason


def litellm_error(url: str) -> Any:
    try:
        _litellm().completion(messages=QUERY, **{**_at(url, GREEDY), "model": "openai/nothing"})
    except openai.APIStatusError as error:
        return type(error).__name__, error.status_code, str(error)
    raise AssertionError("a model that is not there was answered")


def _litellm() -> Any:
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = (
        "True"  # otherwise importing it fetches the prices of models from the network
    )
    import litellm

    return litellm


def _at(url: str, options: dict[str, Any], kind: str = "openai") -> dict[str, Any]:
    return {**options, "model": f"{kind}/{MODEL}", "api_base": f"{url}/v1", "api_key": "none", "max_retries": 0}


CALLS: Mapping[str, Callable[[str], Any]] = {
    call.__name__: call
    for call in (
        openai_chat, openai_stream, openai_async, openai_tools, openai_tools_in_a_stream, openai_parsed, openai_events,
        openai_responses, openai_completions, openai_errors, openai_models,
        litellm_chat, litellm_stream, litellm_async, litellm_tools, litellm_parsed, litellm_text, litellm_error,
    )
}  # fmt: skip
