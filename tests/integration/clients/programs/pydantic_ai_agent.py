"""Pydantic AI: an agent."""

import asyncio
from typing import Any

from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider

from .program import ANSWER, BASE_URL, MODEL, QUESTION, run

SETTINGS: Any = {"max_tokens": 40, "extra_body": ANSWER}


def agent(model: str) -> Agent:
    return Agent(OpenAIChatModel(model, provider=OpenAIProvider(base_url=BASE_URL, api_key="none")))


def ask(model: str = MODEL, headers: dict[str, str] | None = None, body: dict[str, Any] | None = None) -> Any:
    settings: Any = {**SETTINGS}
    if headers:
        settings["extra_headers"] = headers
    if body:
        settings["extra_body"] = {**ANSWER, **body}
    result = agent(model).run_sync(QUESTION, model_settings=settings)
    return result.output, None


def stream(model: str) -> str:
    async def gather() -> str:
        async with agent(model).run_stream(QUESTION, model_settings=SETTINGS) as result:
            return str(await result.get_output())

    return asyncio.run(gather())


run(ask, stream)
