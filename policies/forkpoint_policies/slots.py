"""Per-request state on the device, advanced only by committed tokens."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .spec import MOST_RULES


@dataclass(frozen=True)
class Slots:
    """One entry per request slot. A slot's state is that after the tokens before `position`, the last position evaluated.

    `pending` holds the rules that fired there; they count in `fired` only once a token was committed at that position, as a
    prompt that is computed in pieces evaluates its first position several times.
    """

    position: Tensor  # [S] int64
    word_state: Tensor  # [S] int64
    in_reasoning: Tensor  # [S] bool
    fired: Tensor  # [S, MOST_RULES] int64
    pending: Tensor  # [S, MOST_RULES] bool

    @staticmethod
    def allocate(count: int, device: torch.device) -> Slots:
        return Slots(
            position=torch.zeros(count, dtype=torch.int64, device=device),
            word_state=torch.zeros(count, dtype=torch.int64, device=device),
            in_reasoning=torch.ones(count, dtype=torch.bool, device=device),
            fired=torch.zeros(count, MOST_RULES, dtype=torch.int64, device=device),
            pending=torch.zeros(count, MOST_RULES, dtype=torch.bool, device=device),
        )

    def start(self, slot: int, position: int, word_state: int, in_reasoning: bool) -> None:
        """Begin a request whose first `position` tokens are already reflected in the other arguments."""
        self.position[slot] = position
        self.word_state[slot] = word_state
        self.in_reasoning[slot] = in_reasoning
        self.fired[slot] = 0
        self.pending[slot] = False

    def counts(self, slot: int) -> tuple[Tensor, Tensor, Tensor]:
        """What cannot be told again from the tokens: to keep while a request is preempted."""
        return self.position[slot].clone(), self.fired[slot].clone(), self.pending[slot].clone()

    def restore_counts(self, slot: int, position: int, counts: tuple[Tensor, Tensor, Tensor]) -> None:
        """Give a resumed request its counts back; firings at a position whose token was committed since count now."""
        evaluated, fired, pending = counts
        self.fired[slot] = fired + (pending & (evaluated < position))
