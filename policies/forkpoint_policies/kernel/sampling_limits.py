"""The limits of a request's sampling beside its temperature. No torch, so that the API process can write them."""

from __future__ import annotations

import msgspec


class SamplingLimits(msgspec.Struct, frozen=True):
    """vLLM's parameters by the same names, with its defaults: no limit."""

    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
