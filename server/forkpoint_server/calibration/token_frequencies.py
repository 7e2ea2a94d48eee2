"""How often a model generates each token, from a file beside its weights: for placebos matched by frequency."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

FILE = "forkpoint.json"


class _File(msgspec.Struct):
    """`counts` by token id, in text that the model generated at temperature 1."""

    counts: dict[int, int]


def read_token_frequencies(folder: Path) -> Mapping[int, float]:
    """The share of each token in the model's own text; empty where its folder has none. Raises ValueError for a file
    that has no counts."""
    file = folder / FILE
    if not file.is_file():
        return {}
    try:
        read = msgspec.json.decode(file.read_bytes(), type=_File)
    except msgspec.DecodeError as error:
        raise ValueError(f"{file} has no token counts: {error}") from None
    total = sum(read.counts.values())
    return {token: count / total for token, count in read.counts.items() if count}
