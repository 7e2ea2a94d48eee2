"""The effective rank of a window of hidden states, and how it changes (arXiv:2509.23808).

The authors measure it over the whole answer up to a token, cut to its last 512, every 40 tokens. Here it is over a
window of fixed length, so that its values can be compared: the rank of a longer text is larger.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import nan

import torch
from torch import Tensor


def effective_rank(states: Tensor) -> float:
    """The exponential of the entropy of the singular values' shares, of [W, D] states around their mean; from 1 on.

    A window of equal states has the rank 1.
    """
    centred = states.double()
    centred = centred - centred.mean(dim=0)
    if len(centred) > centred.shape[1]:
        centred = centred.T
    # Of the smaller square matrix. On the host: the solver on a GPU depends on how many matrices it gets.
    values = torch.linalg.eigvalsh((centred @ centred.T).cpu()).clamp_(min=0).sqrt()
    total = float(values.sum())
    return float(torch.special.entr(values / total).sum().exp()) if total > 0 else 1.0


@dataclass(frozen=True, slots=True)
class RankState:
    """The effective rank at a position, its velocity and its acceleration; NaN as long as they are not known.

    The velocity is the rank less the mean of all earlier ones; the acceleration is the velocity less the previous one.
    """

    rank: float = nan
    velocity: float = nan
    acceleration: float = nan
    sum_of_ranks: float = 0.0
    num_ranks: int = 0

    def after(self, rank: float) -> RankState:
        """The state when one more rank was measured."""
        velocity = rank - self.sum_of_ranks / self.num_ranks if self.num_ranks else nan
        return RankState(
            rank, velocity, velocity - self.velocity, self.sum_of_ranks + rank, self.num_ranks + 1
        )  # NaN less or from anything is NaN


UNKNOWN = RankState()
