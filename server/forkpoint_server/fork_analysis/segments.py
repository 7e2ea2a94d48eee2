"""Splits a text into segments that are measured concurrently, each starting where the prefix cache ends."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True)
class Segment:
    """The tokens [begin, end) of a text."""

    begin: int
    end: int


def split(length: int, prompt: int, block: int, max_segments: int) -> list[Segment]:
    """At most `max_segments` segments, as equal as possible, of `length` tokens after a prompt of `prompt` tokens.

    Each but the first starts one token after a `block` of the prefix cache ends: the token before it is recomputed.
    """
    blocks = -(-(length + prompt % block) // block)
    each = -(-blocks // max(1, max_segments)) * block
    first = each - prompt % block + 1
    cuts = [0, *range(first, length, each), length]
    return [Segment(begin, end) for begin, end in pairwise(cuts)]
