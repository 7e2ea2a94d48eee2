"""anthropic-sdk-python: messages, and a stream of them."""

from typing import Any

import anthropic

from .program import BASE_URL, MESSAGES, MODEL, run

CLIENT = anthropic.Anthropic(base_url=BASE_URL.removesuffix("/v1"), api_key="none", max_retries=0)


def ask(model: str = MODEL, headers: dict[str, str] | None = None, body: dict[str, Any] | None = None) -> Any:
    message = CLIENT.messages.create(
        model=model, messages=MESSAGES, max_tokens=40, extra_headers=headers, extra_body=body
    )
    return message.content, (message.model_extra or {}).get("forkpoint")


def stream(model: str) -> str:
    with CLIENT.messages.stream(model=model, messages=MESSAGES, max_tokens=40) as events:
        return "".join(events.text_stream)


run(ask, stream)
