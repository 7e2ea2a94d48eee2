"""The OpenAI Agents SDK."""

import asyncio
from typing import Any

from agents import Agent, ModelSettings, OpenAIChatCompletionsModel, Runner, set_tracing_disabled
from openai import AsyncOpenAI

from .program import ANSWER, BASE_URL, MODEL, QUESTION, run

set_tracing_disabled(True)


def agent(model: str, headers: dict[str, str] | None = None, body: dict[str, Any] | None = None) -> Agent[None]:
    client = AsyncOpenAI(base_url=BASE_URL, api_key="none", max_retries=0)
    settings = ModelSettings(max_tokens=40, extra_headers=headers, extra_body={**ANSWER, **(body or {})})
    return Agent(
        name="countdown",
        model=OpenAIChatCompletionsModel(model=model, openai_client=client),
        model_settings=settings,
    )


def ask(model: str = MODEL, headers: dict[str, str] | None = None, body: dict[str, Any] | None = None) -> Any:
    return Runner.run_sync(agent(model, headers, body), QUESTION).final_output, None


def stream(model: str) -> str:
    async def gather() -> str:
        result = Runner.run_streamed(agent(model), QUESTION)
        async for _ in result.stream_events():
            pass
        return str(result.final_output)

    return asyncio.run(gather())


run(ask, stream)
