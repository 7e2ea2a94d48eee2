"""The log probabilities of a choice's tokens in the distributions that they were sampled from."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

EMPTY_BYTES = 500
NATS_BYTES = 300
"""Of an alternative, in CPython, rounded up."""


class PolicyLogprobs:
    """Of one choice that wants them, in nats, as the worker reports them.

    A token's log probability arrives with the next token; after the last one, its whole distribution does, perhaps
    before the token is known here. Those of alternatives are stored where a branch may write one.
    """

    def __init__(self) -> None:
        self._nats: dict[tuple[int, int], float] = {}  # (position, token) -> nats
        self._distributions: dict[int, NDArray[np.float32]] = {}  # position -> [vocabulary] nats
        self._final: NDArray[np.float32] | None = None  # of the choice's tokens; NaN where they were lost

    @property
    def num_bytes(self) -> int:
        """The memory that it takes after the choice has ended."""
        return EMPTY_BYTES + NATS_BYTES * len(self._nats) + (0 if self._final is None else self._final.nbytes)

    def add(self, position: int, token: int, nats: float) -> None:
        self._nats[position, token] = nats

    def add_distribution(self, position: int, nats: NDArray[np.float32]) -> None:
        self._distributions[position] = nats

    def resolve(self, tokens: Sequence[int], first_position: int) -> None:
        """Look up these consecutive tokens in the distributions, and release those."""
        for position in list(self._distributions):
            if 0 <= position - first_position < len(tokens):
                token = tokens[position - first_position]
                self._nats.setdefault((position, token), float(self._distributions.pop(position)[token]))

    def of(self, position: int, token: int) -> float | None:
        """The log probability of a token at a position; None if it has not arrived."""
        known = self._nats.get((position, token))
        if known is None and position in self._distributions:
            known = float(self._distributions[position][token])
        return known

    def of_all(self, tokens: Sequence[int], first_position: int) -> list[float | None]:
        """The log probability of each of these consecutive tokens."""
        if self._final is not None:
            return [None if math.isnan(nats) else nats for nats in self._final.tolist()]
        return [self.of(position, token) for position, token in enumerate(tokens, first_position)]

    def finish(self, tokens: Sequence[int], first_position: int, forks: Collection[int]) -> None:
        """Release what is about neither these tokens nor alternatives at forks, after the choice has ended."""
        self._final = np.array(self.of_all(tokens, first_position), np.float32)
        self._nats = {key: nats for key, nats in self._nats.items() if key[0] in forks}
        self._distributions = {}
