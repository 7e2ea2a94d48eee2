"""Tokenises a text as the model sees it: rendered by vLLM, and split where the model would have started to write."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import Request
from pydantic import ValidationError

from forkpoint_policies.compile.compiler import ServedModel
from forkpoint_policies.compile.program import NO_TOKEN
from forkpoint_policies.spec import InputError
from forkpoint_server.vllm_seam import (
    ErrorResponse,
    ServingTokenization,
    TokenizeChatRequest,
    TokenizeCompletionRequest,
)

from .messages import content_text, num_entries, read_messages, reasoning_text, without_reasoning
from .request import ForksRequest


class RenderingError(ValueError):
    """vLLM's own error response to a text that it does not render, for an unknown model say."""

    def __init__(self, response: ErrorResponse) -> None:
        super().__init__(response.error.message)
        self.response = response


@dataclass(frozen=True)
class Text:
    """Token ids of the prompt, and of the completion to analyse."""

    prompt: list[int]
    tokens: list[int]


@dataclass(frozen=True)
class TextReader:
    """Turns a request's text into tokens, with vLLM's own tokenisation route for the served model."""

    tokenization: ServingTokenization
    model: ServedModel
    stops: frozenset[int]
    raw_request: Request

    async def read(self, request: ForksRequest) -> Text:
        """The request's text. Raises InputError for one this model cannot have, RenderingError with vLLM's error."""
        self._check_length(request)
        text = await (self._plain(request) if request.messages is None else self._chat(request, request.messages))
        field = "completion" if request.messages is None else "messages"
        if not text.prompt:
            raise InputError("prompt", "is empty; a text needs at least one token to start after")
        if not text.tokens:
            raise InputError(field, "has an empty text to measure; the last one must have at least one token")
        longest = self.tokenization.model_config.max_model_len
        if len(text.prompt) + len(text.tokens) > longest:
            raise InputError(
                field,
                f"is too long: {len(text.prompt)} tokens of prompt and {len(text.tokens)} of text are "
                f"{len(text.prompt) + len(text.tokens)}, and the model's context is {longest} tokens",
            )
        return text

    def _check_length(self, request: ForksRequest) -> None:
        """Reject a text that exceeds the context however it is tokenised: reading it would take long."""
        num_tokens = self.tokenization.model_config.max_model_len
        texts = {name: getattr(request, name) for name in ("prompt", "completion", "messages", "tools")}
        for field, text in texts.items():
            if isinstance(text, list) and (number := num_entries(text)) > num_tokens:
                raise InputError(
                    field, f"is too long: {number} entries, for {num_tokens} tokens of the model's context"
                )
        num_bytes = max(map(len, self.model.vocabulary.tokens)) * num_tokens
        for field, text in texts.items():
            if (size := _bytes(text)) > num_bytes:
                raise InputError(field, f"is too long: {size} bytes, and the model's context holds {num_bytes} at most")

    async def _plain(self, request: ForksRequest) -> Text:
        prompt, completion = request.prompt, request.completion
        if isinstance(prompt, str):
            prompt = await self._tokens(TokenizeCompletionRequest(model=request.model, prompt=prompt)) if prompt else []
        else:
            await self._tokens(TokenizeCompletionRequest(model=request.model, prompt="x"))  # is there such a model?
        tokens = await self._encode(completion) if isinstance(completion, str) else completion or []
        for field, token_ids in (("prompt", prompt or []), ("completion", tokens)):
            unknown = next((token for token in token_ids if token >= self.model.vocabulary.size), None)
            if unknown is not None:
                raise InputError(
                    field, f"holds {unknown}; the served model's tokens end at {self.model.vocabulary.size - 1}"
                )
        return Text(list(prompt or []), list(tokens))

    async def _chat(self, request: ForksRequest, messages: list[dict[str, Any]]) -> Text:
        messages = read_messages(messages, request.tools)
        *before, last = messages
        prompt = await self._rendered(request, before, add_generation_prompt=True)
        content, reasoning = content_text(last), reasoning_text(last)
        if content or last.get("tool_calls"):  # else the template would close what was cut off
            whole = await self._rendered(request, messages, add_generation_prompt=False)
            written = await self._after(prompt, whole)
            if written is not None and (not reasoning or await self._has_reasoning(request, before, last, whole)):
                return Text(prompt, self._ended(written))
        return Text(prompt, await self._encode(self._put_together(prompt, reasoning, content)))

    async def _has_reasoning(
        self, request: ForksRequest, before: list[dict[str, Any]], last: dict[str, Any], whole: Sequence[int]
    ) -> bool:
        """Whether the template renders the reasoning: if so, the prompt differs without it."""
        without = await self._rendered(request, [*before, without_reasoning(last)], add_generation_prompt=False)
        return list(whole) != without

    async def _rendered(
        self, request: ForksRequest, messages: list[dict[str, Any]], *, add_generation_prompt: bool
    ) -> list[int]:
        if not messages:
            raise InputError(
                "messages", "holds nothing before the assistant's text; there must be a message that it answers"
            )
        options = {"tools": request.tools, "chat_template_kwargs": request.chat_template_kwargs}
        try:
            chat = TokenizeChatRequest.model_validate(
                {
                    "model": request.model,
                    "messages": messages,
                    "add_generation_prompt": add_generation_prompt,
                    **options,
                }
            )
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False)[0]
            raise InputError(".".join(map(str, first["loc"])) or "messages", first["msg"]) from None
        return await self._tokens(chat)

    async def _tokens(self, request: TokenizeChatRequest | TokenizeCompletionRequest) -> list[int]:
        answer = await self.tokenization.create_tokenize(request, self.raw_request)
        if isinstance(answer, ErrorResponse):
            raise RenderingError(answer)
        return answer.tokens

    async def _after(self, prompt: Sequence[int], whole: Sequence[int]) -> list[int] | None:
        """What the template wrote after the prompt; None if it does not start with it (no reasoning marker, say)."""
        if list(whole[: len(prompt)]) == list(prompt):
            return list(whole[len(prompt) :])
        beginning, text = self._decode(prompt), self._decode(whole)
        return await self._encode(text[len(beginning) :]) if text.startswith(beginning) else None

    def _ended(self, tokens: list[int]) -> list[int]:
        """The tokens up to the end of the message: templates add tokens behind it that no model writes."""
        last = next((index for index in range(len(tokens) - 1, -1, -1) if tokens[index] in self.stops), None)
        return tokens if last is None else tokens[: last + 1]

    def _put_together(self, prompt: Sequence[int], reasoning: str, content: str) -> str:
        """As the model writes it: reasoning, end marker, answer, stop token. A truncated text gets no end."""
        regions = self.model.regions
        start, end = self._decode(regions.reasoning_start), self._decode(regions.reasoning_end)
        if reasoning and not (start and end):
            raise InputError(
                "messages",
                "the last one has a reasoning, but the served model's chat template does not write it, and the "
                "server was started without --reasoning-parser; put the whole text into `content`",
            )
        before = self._decode(prompt)
        opened = bool(start) and before.rfind(start) > before.rfind(end)
        text = content
        if reasoning:
            text = f"{'' if opened else start}{reasoning}{end + content if content else ''}"
        elif opened and content.startswith(start):
            text = content.removeprefix(start)
        closing = self._decode([self.model.stop]) if content and self.model.stop != NO_TOKEN else ""
        return text + closing if text else ""

    def _decode(self, tokens: Sequence[int]) -> str:
        return b"".join(self.model.vocabulary.tokens[token] for token in tokens).decode(errors="replace")

    async def _encode(self, text: str) -> list[int]:
        assert self.model.encode is not None
        return await asyncio.to_thread(self.model.encode, text)


def _bytes(text: str | Sequence[Any] | None) -> int:
    """UTF-8 bytes of a text or of all values in messages; 0 for token ids, which vLLM's own limit counts."""
    if isinstance(text, str):
        return len(text.encode(errors="replace"))
    return sum(_bytes(str(value)) for one in text or () if isinstance(one, dict) for value in one.values())
