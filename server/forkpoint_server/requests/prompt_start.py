"""The start of a request's prompt, for lists of requests: what its user wrote, without templates and system prompts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MAX_CHARACTERS = 200
_FIELDS = ("messages", "input", "prompt")
"""Of chat completions and messages, of responses, and of completions."""


def prompt_start(body: Mapping[str, Any]) -> str | None:
    """The first MAX_CHARACTERS of the last user message, or of a plain prompt; None where the body has no such text."""
    value = next((body[field] for field in _FIELDS if body.get(field)), None)
    if isinstance(value, list):
        plain = value[-1] if isinstance(value[-1], str) else None
        users = (one for one in reversed(value) if isinstance(one, dict) and one.get("role") == "user")
        value = plain if plain is not None else next(users, {}).get("content")
    if isinstance(value, list):
        parts = (part.get("text") for part in value if isinstance(part, dict))
        value = next((text for text in parts if isinstance(text, str)), None)
    return value[:MAX_CHARACTERS] if isinstance(value, str) and value else None
