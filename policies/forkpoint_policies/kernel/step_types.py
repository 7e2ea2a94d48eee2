"""What a step works on, and its record: the numbers of each row, in the columns that are sent to the server."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from .native.columns import R_LAST_TOKEN, R_POSITION


@dataclass(frozen=True)
class Batch:
    """Of each row of the logits: its request's slot, the position of the token that it comes after in prompt and
    answer, and that token.

    A request's rows follow each other: the one after its committed tokens, then one after each draft token. `hidden`
    are the signals of its hidden states, NaN where not known; None where no request of the batch asks for any.
    """

    slots: NDArray[np.int32]  # [rows], on the host
    positions: Tensor  # [rows] int64
    last_tokens: Tensor  # [rows]
    prompt_lens: Tensor  # [slots], tokens
    hidden: Tensor | None = None  # [rows, native.columns.NUM_HIDDEN] float32


@dataclass(frozen=True)
class StepRecord:
    """By row of the logits, on the device of the step.

    Where nothing will be sampled, or under no policy, a row's position is NONE. `likeliest` are the tokens of rows
    whose requests want alternatives, NONE elsewhere; a probability is negative where the policy took the token away.
    """

    rows: Tensor  # [n, native.columns.RECORD_COLUMNS] int32, floats by their bits
    likeliest: Tensor  # [n, k] int32
    probabilities: Tensor  # [n, k] float32
    certainty: Tensor  # [n] float32 nats, of policies that branch: the self-certainty of arXiv:2502.18581
    hidden: Tensor | None = None  # [n, native.columns.NUM_HIDDEN] float32, as in Batch

    @property
    def position(self) -> Tensor:
        """[n] int32"""
        return self.rows[:, R_POSITION]

    @property
    def last_token(self) -> Tensor:
        """[n] int32, the token that the row comes after"""
        return self.rows[:, R_LAST_TOKEN]
