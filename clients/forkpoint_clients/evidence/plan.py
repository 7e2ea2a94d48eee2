"""How a budget of tokens is spent: first on calibration, then on findings, then on arms beside their placebos."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

ARMS = (
    "none",
    "dual-temperature",
    "dual-temperature.placebo",
    "nowait",
    "nowait.placebo",
    "thinking-ban",
    "thinking-ban.placebo",
)
"""The arms that every model is tried with: each policy beside the placebo of its dose."""

CALIBRATION_SHARE, FINDINGS_SHARE = 0.05, 0.55
"""The shares of the budget that calibration may take, and findings and calibration together; the arms take the rest."""

MIN_CALIBRATION_TOKENS, MAX_CALIBRATION_TOKENS = 5_000, 50_000
MIN_QUESTIONS = 10


@dataclass(frozen=True)
class Budget:
    """Generated tokens, in all."""

    tokens: int

    @property
    def calibration(self) -> int:
        """The tokens that calibration measures."""
        return min(MAX_CALIBRATION_TOKENS, max(MIN_CALIBRATION_TOKENS, int(CALIBRATION_SHARE * self.tokens)))

    def questions_of_findings(self, first: int, spent: int, used_before: int, needed: Sequence[int], most: int) -> int:
        """How many questions findings get after a first round.

        A round of `first` questions spent `spent` tokens, and `used_before` were used before it. The most that an
        undecided finding needs are `needed`; the data has `most`. Never fewer than `first`.
        """
        if not needed or not spent:
            return first
        affordable = int(first * (FINDINGS_SHARE * self.tokens - used_before) / spent)
        return max(first, min(max(needed), affordable, most))

    def questions_of_arms(self, tokens_per_answer: float, used: int, most: int) -> int:
        """How many questions the arms get for what is left."""
        affordable = int((self.tokens - used) / (tokens_per_answer * len(ARMS)))
        return min(most, max(MIN_QUESTIONS, affordable))


def needed_questions(results: Mapping[str, Any]) -> list[int]:
    """What the undecided findings of a `results.json` say that they need."""
    return [
        int(finding["n_needed"])
        for finding in results["findings"]
        if finding["verdict"] == "undecided" and finding["n_needed"] is not None
    ]
