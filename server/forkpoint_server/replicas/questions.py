"""What one server asks another: the paths, and the parameters of their queries."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import msgspec

from forkpoint_server.requests.listing import Filters, Position

PREFIX = "/replica"
"""Outside of what vLLM's keys guard: these requests are signed instead."""
TRACE, TOKENS, POSITION, ROWS = (f"{PREFIX}/{name}" for name in ("trace", "tokens", "position", "rows"))

CREATED_HEADER = "X-Forkpoint-Created"
"""When the request of a trace started: of several with one id, the last is wanted."""


class StoredTokens(msgspec.Struct, frozen=True):
    """The prompt and the tokens of one of the `num_answers` of a request to `model`: none where it has no such answer.
    `branches`: they are of a tree."""

    model: str
    branches: bool
    num_answers: int
    prompt: list[int]
    tokens: list[int]


def rows_query(filters: Filters, limit: int, after: Position | None) -> dict[str, str]:
    """The query for a page of rows."""
    wanted: dict[str, Any] = {name: value for name, value in asdict(filters).items() if value is not None}
    if after is not None:
        wanted["after"] = msgspec.json.encode(after).decode()
    return {name: "true" if value is True else "false" if value is False else str(value) for name, value in
            {**wanted, "limit": limit}.items()}  # fmt: skip


def read_position(text: str) -> Position:
    """A position as it was sent. Raises ValueError when it is none."""
    return msgspec.json.decode(text, type=Position)
