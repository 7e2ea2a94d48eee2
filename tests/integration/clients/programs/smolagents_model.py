"""smolagents: OpenAIModel."""

from typing import Any

from smolagents import OpenAIModel

from .program import BASE_URL, MODEL, QUESTION, run

MESSAGES: Any = [{"role": "user", "content": [{"type": "text", "text": QUESTION}]}]


def ask(model: str = MODEL, headers: dict[str, str] | None = None, body: dict[str, Any] | None = None) -> Any:
    kwargs: dict[str, Any] = {"max_tokens": 40, **({"extra_body": body} if body else {})}
    client = OpenAIModel(model, api_base=BASE_URL, api_key="none", client_kwargs={"default_headers": headers}, **kwargs)
    message = client.generate(MESSAGES)
    return message.content or "", (message.raw.model_extra or {}).get("forkpoint")


def stream(model: str) -> str:
    client = OpenAIModel(model, api_base=BASE_URL, api_key="none", max_tokens=40)
    return "".join(delta.content or "" for delta in client.generate_stream(MESSAGES))


run(ask, stream)
