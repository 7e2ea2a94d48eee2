"""Which answer each row of a step belongs to: known to the sender and to the server, so that neither has to say it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Answer:
    """A row's answer: its handle, and the steps of its first and last token."""

    handle: int
    first_position: int
    first_step: int
    last_step: int

    @property
    def num_tokens(self) -> int:
        return self.last_step - self.first_step + 1


@dataclass(frozen=True)
class Schedule:
    """`steps` steps of `rows` answers side by side, each of `tokens` tokens; handles count from `first_handle`.

    The answers of the rows end one after the other, as in a server that has run for a while: the first answer of a row
    begins at a later position, as a branch does.
    """

    first_handle: int
    rows: int
    tokens: int
    steps: int

    @property
    def offsets(self) -> NDArray[np.int32]:
        """The position of each row at the first step, [rows]; 0 for row 0."""
        return np.arange(self.rows, dtype=np.int32) * np.int32(self.tokens) // np.int32(self.rows)

    @property
    def answers_per_row(self) -> int:
        return -(-(self.steps + int(self.offsets[-1])) // self.tokens)

    @property
    def num_handles(self) -> int:
        return self.answers_per_row * self.rows

    def at(self, step: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """The handles and positions of a step's rows, [rows] each."""
        number, position = np.divmod(np.int32(step) + self.offsets, np.int32(self.tokens))
        return self.first_handle + number * np.int32(self.rows) + np.arange(self.rows, dtype=np.int32), position

    def step_of(self, handle: int, position: int) -> int:
        """The step whose row 0 has this handle and position."""
        return (handle - self.first_handle) // self.rows * self.tokens + position

    def answers(self) -> Iterator[Answer]:
        """All answers, by their handles. The last of each row are cut at the last step, or have no tokens."""
        for number in range(self.answers_per_row):
            for row, offset in enumerate(self.offsets.tolist()):
                begin = number * self.tokens - offset
                first, last = max(begin, 0), min(begin + self.tokens, self.steps) - 1
                yield Answer(self.first_handle + number * self.rows + row, first - begin, first, last)
