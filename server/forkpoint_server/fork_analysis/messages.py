"""The messages of a text, as vLLM's chat route would read them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError

from forkpoint_policies.spec import InputError
from forkpoint_server.vllm_seam import (
    MM_PARSER_MAP,
    TEXT_PART_TYPES,
    ChatCompletionMessageParam,
    ChatCompletionToolsParam,
)

_RENDERED = frozenset({"text", "tool_reference"})
"""The types of parts that hold text and that vLLM takes of any role."""
_TEXT_TYPES = TEXT_PART_TYPES | _RENDERED
_FORMS: dict[str, TypeAdapter[Any]] = {
    "messages": TypeAdapter(Annotated[list[ChatCompletionMessageParam], Field(fail_fast=True)]),
    "tools": TypeAdapter(Annotated[list[ChatCompletionToolsParam], Field(fail_fast=True)]),
}
"""vLLM's own forms, but stopping at the first error: vLLM makes a dozen for each wrong message, however many."""


def num_entries(text: Sequence[Any]) -> int:
    """The number of token ids, or of messages with their parts: each takes at least one token of the context."""
    return len(text) + sum(
        len(value)
        for message in text
        if isinstance(message, dict)
        for value in (message.get("content"), message.get("tool_calls"))
        if isinstance(value, list)
    )


def read_messages(messages: list[dict[str, Any]], tools: list[dict[str, Any]] | None = None) -> list[dict[str, Any]]:
    """The messages in the form in which vLLM's renderer reads them. Raises InputError.

    Chat clients store what other APIs returned: more forms are taken here than vLLM's chat route takes.
    """
    if not messages or messages[-1].get("role") != "assistant":
        said = f"is the {_quoted(messages[-1].get('role'))}'s" if messages else "is missing"
        raise InputError("messages", f"the last one {said}; it must be the assistant's, with the text to measure")
    for number, message in enumerate(messages):
        if not isinstance(message.get("role"), str):
            raise InputError(f"messages[{number}].role", "must be a text, as in user, assistant or tool")
    for number, message in enumerate(messages):
        _check_parts(message.get("content"), f"messages[{number}].content")
    normalised = [_normalised(message) for message in messages]
    for field, entries in (("messages", normalised), ("tools", tools or [])):
        _check_form(field, entries)
    return normalised


def content_text(message: dict[str, Any]) -> str:
    """The content of a message as one text: its parts in lines of their own, as vLLM gives them to a template."""
    content = message.get("content")
    return content if isinstance(content, str) else "\n".join(map(_part_text, content or []))


def reasoning_text(message: dict[str, Any]) -> str:
    """The reasoning of a message that `read_messages` returned. Raises InputError unless it is a text."""
    reasoning = message.get("reasoning")
    if reasoning is not None and not isinstance(reasoning, str):
        raise InputError("messages.reasoning", "must be a text")
    return reasoning or ""


def without_reasoning(message: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in message.items() if name != "reasoning"}


def _normalised(message: dict[str, Any]) -> dict[str, Any]:
    """With the reasoning under its newer name, and texts as parts of type `text`, as vLLM's renderer reads them."""
    normalised = {name: value for name, value in message.items() if name != "reasoning_content"}
    if normalised.get("reasoning") is None and message.get("reasoning_content") is not None:
        normalised["reasoning"] = message["reasoning_content"]
    if isinstance(message.get("content"), list):
        normalised["content"] = [
            part if isinstance(part, dict) and part["type"] in _RENDERED else {"type": "text", "text": _part_text(part)}
            for part in message["content"]
        ]
    return normalised


def _check_form(field: str, entries: list[dict[str, Any]]) -> None:
    try:
        _FORMS[field].validate_python(entries)
    except ValidationError as error:
        errors = error.errors(include_url=False, include_context=False)
        number = errors[0]["loc"][0]
        written = [name for name in entries[int(number)] if name != "role"]
        # a message has one error for each role that it could have: the one about a field that was sent is of its own
        about = ((name, one["msg"]) for one in errors for name in one["loc"] if name in written)
        name, message = next(about, (None, errors[0]["msg"]))
        raise InputError(f"{field}[{number}]" if name is None else f"{field}[{number}].{name}", message) from None


def _check_parts(content: Any, field: str) -> None:
    """Raise InputError for what cannot be measured: only texts have tokens."""
    if not isinstance(content, str | list | None):
        raise InputError(field, f"must be a text or a list of parts, not {type(content).__name__}")
    for part in content if isinstance(content, list) else []:
        if isinstance(part, str):
            continue
        kind = part.get("type") if isinstance(part, dict) else None
        if not isinstance(kind, str) or kind not in _TEXT_TYPES:
            known = ", ".join(sorted(_TEXT_TYPES))
            raise InputError(field, f"holds a part of type {_quoted(kind)}; only text can be measured: {known}")
        if not isinstance(MM_PARSER_MAP[kind](part), str):
            raise InputError(field, f"holds a part of type {kind!r} without its text")


def _part_text(part: Any) -> str:
    return part if isinstance(part, str) else str(MM_PARSER_MAP[part["type"]](part))


def _quoted(value: Any) -> str:
    return str(value)[:40]
