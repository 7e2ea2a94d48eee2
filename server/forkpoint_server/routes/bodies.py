"""Bodies of our own routes."""

from __future__ import annotations

from typing import Any

from fastapi import Request

from forkpoint_policies.spec import PolicyError


async def json_of(request: Request) -> Any:
    """The body as JSON. Raises PolicyError for what is none."""
    try:
        return await request.json()
    except (ValueError, RecursionError):
        raise PolicyError("body", "is not JSON; send an object") from None
