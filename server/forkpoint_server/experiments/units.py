"""Whom a request counts for: the unit that an experiment is randomised by."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from typing import Any

from .assignment import slice_of


def unit_of(unit: str, slice_seconds: float | None, body: Mapping[str, Any], headers: Mapping[str, str]) -> str | None:
    """The unit of a request, or None when it does not say: the field `user` (`metadata.user_id` of Anthropic's messages), a
    header's value, the time slice, or the request itself, which is a fresh one each time."""
    if unit == "request":
        return secrets.token_hex(16)
    if unit == "slice":
        return slice_of(time.time(), slice_seconds or 1.0)
    if unit == "user":
        metadata = body.get("metadata")
        said = body.get("user") or (metadata.get("user_id") if isinstance(metadata, Mapping) else None)
        return said if isinstance(said, str) and said else None
    return headers.get(unit.lower()) or None
