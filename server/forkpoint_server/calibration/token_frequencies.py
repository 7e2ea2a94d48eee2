"""How often a model generates each token, from a file beside its weights: for placebos matched by frequency."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

FILE = "forkpoint.json"


class _File(msgspec.Struct):
    """`counts` by token id, in text that the model generated at temperature 1, and the mean length of its reasoning."""

    counts: dict[int, int]
    mean_reasoning_tokens: float | None = None


@dataclass(frozen=True)
class Calibration:
    """`frequencies`: the share of each token in the model's own text; empty when nothing was measured.
    `mean_reasoning_tokens`: the mean length of its reasoning, None when it was not measured."""

    frequencies: Mapping[int, float] = field(default_factory=dict)
    mean_reasoning_tokens: float | None = None


def read_token_frequencies(folder: Path) -> Calibration:
    """The calibration in a model's folder, or an empty one. Raises ValueError for a file that is none."""
    file = folder / FILE
    if not file.is_file():
        return Calibration()
    try:
        read = msgspec.json.decode(file.read_bytes(), type=_File)
    except msgspec.DecodeError as error:
        raise ValueError(f"{file} is not a calibration: {error}") from None
    total = sum(read.counts.values())
    shares = {token: count / total for token, count in read.counts.items() if count}
    return Calibration(shares, read.mean_reasoning_tokens)
