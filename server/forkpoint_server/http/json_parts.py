"""How many parts a JSON body has, counted before it is parsed: a parser holds up all other requests until its end."""

from __future__ import annotations

import re

from forkpoint_policies.spec import InputError

MAX_PARTS = 250_000
"""Objects, lists and named fields of one body; parsing so many takes a few tenths of a second."""

MAX_DEPTH = 500
"""Objects and lists inside each other. Python's parser fails at some 900, which not each of vLLM's routes expects."""

_PARTS = (b"{", b"[", b":")
_UP_TO_NEXT_PART = re.compile(rb'(?:[^"\[{:]++|"[^"\\]*+(?:\\.[^"\\]*+)*+")*+[\[{:]', re.DOTALL)
"""What is no part, texts with all that they hold, and then the first byte of one."""
_UP_TO_NEXT_BRACKET = re.compile(rb'(?:[^"\[{}\]]++|"[^"\\]*+(?:\\.[^"\\]*+)*+")*+([\[{}\]])', re.DOTALL)


def check_parts(raw: bytes, limit: int = MAX_PARTS) -> None:
    """Raise InputError for a body with more than `limit` parts, or parts inside each other beyond `MAX_DEPTH`.

    Plain numbers and texts are no parts: they cost little.
    """
    if sum(map(raw.count, _PARTS)) > limit and _has_more_parts(raw, limit):
        raise InputError("body", f"has more than {limit} objects, lists and fields; split it into several requests")
    if raw.count(b"{") + raw.count(b"[") > MAX_DEPTH and _is_deeper(raw, MAX_DEPTH):
        raise InputError("body", f"has more than {MAX_DEPTH} objects and lists inside each other")


def _has_more_parts(raw: bytes, limit: int) -> bool:
    """Texts may hold the bytes of parts, so these are skipped here."""
    position = 0
    for _ in range(limit + 1):
        part = _UP_TO_NEXT_PART.match(raw, position)
        if part is None:  # the end, or no JSON
            return False
        position = part.end()
    return True


def _is_deeper(raw: bytes, limit: int) -> bool:
    depth = position = 0
    while (bracket := _UP_TO_NEXT_BRACKET.match(raw, position)) is not None:
        depth += 1 if bracket[1] in b"[{" else -1
        if depth > limit:
            return True
        position = bracket.end()
    return False
