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
    """By row of the logits, on the device of the step.

    Where nothing will be sampled, or under no policy, a row's position is NONE. `likeliest` are the tokens of rows
    whose requests want alternatives, NONE elsewhere; a probability is negative where the policy took the token away.
    """

    rows: Tensor  # [n, native.columns.RECORD_COLUMNS] int32, floats by their bits
    likeliest: Tensor  # [n, k] int32
    probabilities: Tensor  # [n, k] float32
    certainty: Tensor  # [n] float32 nats, of policies that branch: the self-certainty of arXiv:2502.18581
    hidden: Tensor | None = None  # [n, native.columns.NUM_HIDDEN] float32, as in Batch
    whole: Tensor | None = None  # int32, of which the first four are parts, where they lie together

    @staticmethod
    def empty(rows: int, alternatives: int, device: torch.device) -> StepRecord:
        """Room for so many rows and alternatives, in one piece."""
        width = max(1, alternatives)
        return StepRecord.of(
            torch.empty(rows * (RECORD_COLUMNS + 2 * width + 1), dtype=torch.int32, device=device), rows
        )

    @staticmethod
    def of(whole: Tensor, rows: int) -> StepRecord:
        """The parts of a record in one piece."""
        width = (len(whole) // max(rows, 1) - RECORD_COLUMNS - 1) // 2
        columns, likeliest, probabilities, certainty = whole.split(
            [rows * RECORD_COLUMNS, rows * width, rows * width, rows]
        )
        return StepRecord(
            columns.view(rows, RECORD_COLUMNS),
            likeliest.view(rows, width),
            probabilities.view(torch.float32).view(rows, width),
            certainty.view(torch.float32),
            whole=whole,
        )

    def to_host(self) -> StepRecord:
        """A copy on the host, which is there once the device has reached it."""
        hidden = None if self.hidden is None else self.hidden.to("cpu", non_blocking=True)
        if self.whole is not None:
            return replace(StepRecord.of(self.whole.to("cpu", non_blocking=True), len(self.rows)), hidden=hidden)
        parts = (self.rows, self.likeliest, self.probabilities, self.certainty)
        return StepRecord(*(one.to("cpu", non_blocking=True) for one in parts), hidden)

    @property
    def position(self) -> Tensor:
        """[n] int32"""
        return self.rows[:, R_POSITION]

    @property
    def last_token(self) -> Tensor:
        """[n] int32, the token that the row comes after"""
        return self.rows[:, R_LAST_TOKEN]
