"""LlamaIndex: OpenAILike."""

from typing import Any

from llama_index.core.llms import ChatMessage
from llama_index.llms.openai_like import OpenAILike

from .program import BASE_URL, MODEL, QUESTION, run

MESSAGES = [ChatMessage(role="user", content=QUESTION)]


def llm(model: str, headers: dict[str, str] | None = None, body: dict[str, Any] | None = None) -> OpenAILike:
    return OpenAILike(
        model=model, api_base=BASE_URL, api_key="none", is_chat_model=True, max_tokens=40, max_retries=0,
        default_headers=headers, additional_kwargs={"extra_body": body} if body else {},
    )  # fmt: skip


def _field(raw: Any) -> Any:
    return raw.get("forkpoint") if isinstance(raw, dict) else (raw.model_extra or {}).get("forkpoint")


def ask(model: str = MODEL, headers: dict[str, str] | None = None, body: dict[str, Any] | None = None) -> Any:
    answer = llm(model, headers, body).chat(MESSAGES)
    return answer.message.content or "", _field(answer.raw)


def stream(model: str) -> str:
    return "".join(chunk.delta or "" for chunk in llm(model).stream_chat(MESSAGES))


run(ask, stream)
