"""Where reasoning stands in a sequence of tokens, by the two marker tokens that enclose it."""

from __future__ import annotations

from collections.abc import Sequence


def ends_in_reasoning(tokens: Sequence[int], start: int, end: int) -> bool | None:
    """Whether the last marker in these tokens starts a reasoning; None without one, or if both are the same token."""
    if start == end:
        return None
    return next((token == start for token in reversed(tokens) if token in (start, end)), None)


def after_reasoning(tokens: Sequence[int], end: int) -> Sequence[int]:
    """The tokens after the last marker that ends a reasoning; all of them without one."""
    return tokens[len(tokens) - tokens[::-1].index(end) :] if end in tokens else tokens
