"""The limits of a request's sampling beside its temperature. No torch, so that the API process can write them."""

from __future__ import annotations

import msgspec


class SamplingLimits(msgspec.Struct, frozen=True):
    """vLLM's parameters by the same names, with its defaults: no limit. A `top_k` of 0 or -1 is none."""

    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0

    @property
    def any(self) -> bool:
        """Whether some tokens cannot be sampled."""
        return self.top_k > 0 or self.top_p < 1 or self.min_p > 0


NO_LIMITS = SamplingLimits()
