"""How many parts a JSON body has, counted before it is parsed: a parser holds up all other requests until its end."""

from __future__ import annotations

import re

from forkpoint_policies.spec import InputError

MAX_PARTS = 250_000
"""Objects, lists and named fields of one body; parsing so many takes a few tenths of a second."""

_PARTS = (b"{", b"[", b":")
_UP_TO_NEXT_PART = re.compile(rb'(?:[^"\[{:]++|"[^"\\]*+(?:\\.[^"\\]*+)*+")*+[\[{:]', re.DOTALL)
"""What is no part, texts with all that they hold, and then the first byte of one."""


def check_parts(raw: bytes, limit: int = MAX_PARTS) -> None:
    """Raise InputError for a body with more than `limit` parts. Plain numbers and texts are none: they cost little."""
    if sum(map(raw.count, _PARTS)) > limit and _has_more_parts(raw, limit):
        raise InputError("body", f"has more than {limit} objects, lists and fields; split it into several requests")


def _has_more_parts(raw: bytes, limit: int) -> bool:
    """Texts may hold the bytes of parts, so these are skipped here."""
    position = 0
    for _ in range(limit + 1):
        part = _UP_TO_NEXT_PART.match(raw, position)
        if part is None:  # the end, or no JSON
            return False
        position = part.end()
    return True
