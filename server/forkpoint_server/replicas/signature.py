"""Signs what one server asks another, with the key that the other one published in the database.

The key itself never travels, so that who gets a dead server's address learns nothing; nor does any user's key.
"""

from __future__ import annotations

import hashlib
import hmac
import time

HEADER = "X-Forkpoint-Signature"
MAX_AGE_SECONDS = 300.0
"""How far the clocks of two hosts may differ, and for how long a request that was overheard can be sent again."""


def sign(key: str, path: str, query: str, now: float | None = None) -> str:
    """The header's value for a GET of this path with this query, as it is sent."""
    timestamp = int(time.time() if now is None else now)
    return f"{timestamp}:{_digest(key, path, query, timestamp)}"


def is_signed(value: str | None, key: str, path: str, query: str) -> bool:
    """Whether a header's value signs this request with this key, not too long ago."""
    timestamp, _, digest = (value or "").partition(":")
    if not (timestamp.isascii() and timestamp.isdecimal() and len(timestamp) < 16):
        return False
    expected = _digest(key, path, query, int(timestamp))
    return hmac.compare_digest(digest.encode(), expected.encode()) and abs(time.time() - int(timestamp)) <= (
        MAX_AGE_SECONDS
    )


def _digest(key: str, path: str, query: str, timestamp: int) -> str:
    return hmac.new(key.encode(), f"{timestamp}\n{path}\n{query}".encode(), hashlib.sha256).hexdigest()
