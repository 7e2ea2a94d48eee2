"""What may be shown of a run while it runs: how far it is, and how fast.

Scores are not shown: the answers that end first are biased.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from forkpoint_clients.evaluate.asker import Answer
from forkpoint_clients.evaluate.journal import Unit


@dataclass
class ArmTally:
    """Counts of one arm's answers."""

    answers: int = 0
    truncated: int = 0
    errors: int = 0

    def add(self, answer: Answer) -> None:
        """Count an answer."""
        self.answers += 1
        self.truncated += answer.finish_reason == "length"
        self.errors += answer.error is not None


@dataclass
class Tally:
    """Counts of a run of `total` answers. Speeds are of this process only, without the stored answers."""

    total: int
    arms: dict[str, ArmTally]
    clock: Callable[[], float] = time.monotonic
    answered: int = 0
    new: int = 0
    new_tokens: int = 0
    started_at: float = field(init=False)

    def __post_init__(self) -> None:
        self.started_at = self.clock()

    @classmethod
    def of(cls, arms: Sequence[str], total: int, stored: Mapping[Unit, Answer]) -> Tally:
        """The tally of a run that continues with stored answers."""
        tally = cls(total, {arm: ArmTally() for arm in arms})
        for unit, answer in stored.items():
            tally.arms[unit.arm].add(answer)
            tally.answered += 1
        return tally

    def add(self, unit: Unit, answer: Answer) -> None:
        """Count a new answer."""
        self.arms[unit.arm].add(answer)
        self.answered += 1
        self.new += 1
        self.new_tokens += answer.tokens

    @property
    def tokens_per_second(self) -> float:
        elapsed = self.clock() - self.started_at
        return self.new_tokens / elapsed if elapsed > 0 else 0.0

    @property
    def seconds_left(self) -> float | None:
        """None before the first new answer."""
        if not self.new:
            return None
        return (self.total - self.answered) * (self.clock() - self.started_at) / self.new
