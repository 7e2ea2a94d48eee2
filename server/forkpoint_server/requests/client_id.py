"""The id that a client chose for its request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

HEADER = "x-request-id"
FIELD = "request_id"


def client_id(headers: Mapping[str, str], body: Mapping[str, Any]) -> str | None:
    """The header X-Request-Id, which vLLM prefers, or the body's `request_id`; None without either."""
    chosen = headers.get(HEADER) or body.get(FIELD)
    return chosen if isinstance(chosen, str) and chosen else None
