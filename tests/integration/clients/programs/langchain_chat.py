"""LangChain: ChatOpenAI."""

from typing import Any

from langchain_openai import ChatOpenAI

from .program import BASE_URL, MODEL, QUESTION, run


def ask(model: str = MODEL, headers: dict[str, str] | None = None, body: dict[str, Any] | None = None) -> Any:
    chat = ChatOpenAI(
        model=model, base_url=BASE_URL, api_key="none", max_tokens=40, max_retries=0, default_headers=headers,
        extra_body=body,
    )  # fmt: skip
    message = chat.invoke(QUESTION)
    return message.content, message.response_metadata.get("forkpoint")


def stream(model: str) -> str:
    chat = ChatOpenAI(model=model, base_url=BASE_URL, api_key="none", max_tokens=40, max_retries=0)
    return "".join(str(chunk.content) for chunk in chat.stream(QUESTION))


run(ask, stream)
