"""What a step works on, and its record: the numbers of each row, in the columns that are sent to the server."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .native.columns import R_LAST_TOKEN, R_POSITION, RECORD_COLUMNS


@dataclass(frozen=True)
class Batch:
    """Of each row of the logits: its request's slot, the position of the token that it comes after in prompt and
    answer, and that token.

    A request's rows follow each other: the one after its committed tokens, then one after each draft token. `hidden`
    are the signals of its hidden states, NaN where not known; None where no request of the batch asks for any.
    """

    slots: Tensor  # [rows] int32
    positions: Tensor  # [rows] int64
    last_tokens: Tensor  # [rows]
    prompt_lens: Tensor  # [slots], tokens
    hidden: Tensor | None = None  # [rows, native.columns.NUM_HIDDEN] float32
    known_slots: NDArray[np.int32] | None = None  # `slots`, where the host knows them

    @cached_property
    def host_slots(self) -> NDArray[np.int32]:
        """`slots` on the host. Where they are not known there, this waits for the device."""
        return self.slots.int().cpu().numpy() if self.known_slots is None else self.known_slots


@dataclass(frozen=True)
class StepRecord:
    """By row of the logits, on the device of the step; in one piece, so that it can be copied as one.

    Where nothing will be sampled, or under no policy, a row's position is NONE. `likeliest` are the tokens of rows
    whose requests want alternatives, NONE elsewhere; a probability is negative where the policy took the token away.
    """

    whole: Tensor  # int32: the parts that follow, floats by their bits, one after the other
    num_rows: int  # n
    width: int  # k
    hidden: Tensor | None = None  # [n, native.columns.NUM_HIDDEN] float32, as in Batch

    @staticmethod
    def empty(rows: int, alternatives: int, device: torch.device) -> StepRecord:
        """Room for so many rows and alternatives."""
        width = max(1, alternatives)
        size = rows * (RECORD_COLUMNS + 2 * width + 1)
        return StepRecord(torch.empty(size, dtype=torch.int32, device=device), rows, width)

    @staticmethod
    def of(rows: Tensor, likeliest: Tensor, probabilities: Tensor, certainty: Tensor) -> StepRecord:
        """A record of these parts."""
        floats = (probabilities.float(), certainty.float())
        parts = (rows, likeliest, *(one.contiguous().view(torch.int32) for one in floats))
        return StepRecord(torch.cat([one.flatten() for one in parts]), len(rows), likeliest.shape[1])

    def to_host(self) -> StepRecord:
        """A copy on the host, which is there once the device has reached it."""
        hidden = None if self.hidden is None else self.hidden.to("cpu", non_blocking=True)
        return replace(self, whole=self.whole.to("cpu", non_blocking=True), hidden=hidden)

    @property
    def offsets(self) -> tuple[int, int, int, int]:
        """Where the parts begin: rows, likeliest, probabilities, certainty."""
        likeliest, of_width = self.num_rows * RECORD_COLUMNS, self.num_rows * self.width
        return 0, likeliest, likeliest + of_width, likeliest + 2 * of_width

    @cached_property
    def rows(self) -> Tensor:
        """[n, native.columns.RECORD_COLUMNS] int32, floats by their bits"""
        return self.whole[: self.offsets[1]].view(self.num_rows, RECORD_COLUMNS)

    @cached_property
    def likeliest(self) -> Tensor:
        """[n, k] int32"""
        return self.whole[self.offsets[1] : self.offsets[2]].view(self.num_rows, self.width)

    @cached_property
    def probabilities(self) -> Tensor:
        """[n, k] float32"""
        return self.whole[self.offsets[2] : self.offsets[3]].view(torch.float32).view(self.num_rows, self.width)

    @cached_property
    def certainty(self) -> Tensor:
        """[n] float32 nats, of policies that branch: the self-certainty of arXiv:2502.18581"""
        return self.whole[self.offsets[3] :].view(torch.float32)

    @property
    def position(self) -> Tensor:
        """[n] int32"""
        return self.rows[:, R_POSITION]

    @property
    def last_token(self) -> Tensor:
        """[n] int32, the token that the row comes after"""
        return self.rows[:, R_LAST_TOKEN]
