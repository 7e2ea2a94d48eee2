"""The tokens in which an answer writes its result: what CoT-decoding's confidence is averaged over."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

from forkpoint_policies.spec.answer_extractors import COMPUTED, extractor, formula

MAX_CHARACTERS = 512
"""How far before the end of a text its result is looked for, and how long it may be."""


def answer_span(written: Sequence[bytes], num_characters: int, extract: str, answer: str) -> tuple[int, int] | None:
    """The first token of the shortest text from which `extract` reads this answer, and the token after its last.

    `written` are the bytes of each token, of which the first `num_characters` characters are read. None if the answer
    is not found near their end.
    """
    text = b"".join(written).decode(errors="surrogateescape")[:num_characters]
    if extract in COMPUTED:  # it is not read from hundreds of pieces: each may take seconds
        stated = formula(text) or ""
        start = text.rfind(stated)
        return _tokens(written, text, start, start + len(stated)) if stated and start >= 0 else None
    read = extractor(extract)
    earliest = max(0, len(text) - MAX_CHARACTERS)
    begin = next((at for at in range(len(text) - 1, earliest - 1, -1) if read(text[at:]) == answer), None)
    if begin is None:
        return None
    end = next((at for at in range(begin + 1, len(text)) if read(text[begin:at]) == answer), len(text))
    return _tokens(written, text, begin, end)


def _tokens(written: Sequence[bytes], text: str, begin: int, end: int) -> tuple[int, int]:
    """The first token of a part of a text, and the token after its last."""
    begin_byte, end_byte = (len(text[:at].encode(errors="surrogateescape")) for at in (begin, end))
    ends = list(accumulate(map(len, written)))
    first = next(number for number, after in enumerate(ends) if after > begin_byte)
    last = next(number for number, after in enumerate(ends) if after >= end_byte)
    return first, last + 1
