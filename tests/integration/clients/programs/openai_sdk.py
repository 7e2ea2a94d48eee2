"""openai-python: chat, and a stream of it."""

from typing import Any

import openai

from .program import BASE_URL, MESSAGES, MODEL, run


def ask(model: str = MODEL, headers: dict[str, str] | None = None, body: dict[str, Any] | None = None) -> Any:
    client = openai.OpenAI(base_url=BASE_URL, api_key="none", max_retries=0, default_headers=headers)
    answer = client.chat.completions.create(model=model, messages=MESSAGES, max_tokens=40, extra_body=body)
    return answer.choices[0].message.content, (answer.model_extra or {}).get("forkpoint")


def stream(model: str) -> str:
    client = openai.OpenAI(base_url=BASE_URL, api_key="none", max_retries=0)
    chunks = client.chat.completions.create(model=model, messages=MESSAGES, max_tokens=40, stream=True)
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks)


run(ask, stream)
