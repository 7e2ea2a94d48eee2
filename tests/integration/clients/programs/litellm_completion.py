"""LiteLLM as a library."""

from typing import Any

import litellm

from .program import BASE_URL, MESSAGES, MODEL, run


def ask(model: str = MODEL, headers: dict[str, str] | None = None, body: dict[str, Any] | None = None) -> Any:
    answer = litellm.completion(
        f"openai/{model}", MESSAGES, api_base=BASE_URL, api_key="none", max_tokens=40, num_retries=0,
        extra_headers=headers, extra_body=body,
    )  # fmt: skip
    return answer.choices[0].message.content, getattr(answer, "forkpoint", None)


def stream(model: str) -> str:
    chunks = litellm.completion(
        f"openai/{model}", MESSAGES, api_base=BASE_URL, api_key="none", max_tokens=40, stream=True
    )
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks)


run(ask, stream)
