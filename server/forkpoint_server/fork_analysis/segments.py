"""A text in pieces that are measured side by side: each begins where the prefix cache ends."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True)
class Segment:
    """The tokens `begin` to `end` of a text, the last one not included."""

    begin: int
    end: int


def split(length: int, prompt: int, block: int, most: int) -> list[Segment]:
    """At most `most` segments of a text of `length` tokens after a prompt of `prompt`, as long as each other as far as possible.

    Each but the first begins one token after a block of the prefix cache: one token of what stands before it is computed again.
    """
    blocks = -(-(length + prompt % block) // block)
    each = -(-blocks // max(1, most)) * block
    first = each - prompt % block + 1
    cuts = [0, *range(first, length, each), length]
    return [Segment(begin, end) for begin, end in pairwise(cuts)]
