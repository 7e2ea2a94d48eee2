"""`early-exit` compares exits with caps of equal length and with placebos."""

from __future__ import annotations

import numpy as np
import pytest

from forkpoint_clients.findings.catalog import (
    early_exit,
)
from tests.unit.clients.findings.synthetic import QUESTIONS, Answers, answers_with, scored, trace, words


def test_early_exit_finds_what_is_planted() -> None:
    def answers(policy: float, placebo: float) -> dict[str, Answers]:
        return {
            f"{one.name}{suffix}": answers_with(share, seed=3)
            for one in early_exit.EXITS
            for suffix, share in (("", policy), (".placebo", placebo))
        }

    def against(share: float, seed: int) -> dict[str, Answers]:
        return {
            one.name: {
                key: own for key, own in answers_with(share, seed=seed).items() if int(key[0][1:]) >= QUESTIONS // 2
            }
            for one in early_exit.EXITS
        }

    caps = {one.name: 50 for one in early_exit.EXITS}
    assert set(words(early_exit.conclude(answers_with(0.9), answers(0.9, 0.2), against(0.2, 3), caps))) == {
        "reproduced"
    }
    assert set(words(early_exit.conclude(answers_with(0.9), answers(0.2, 0.9), against(0.9, 3), caps))) == {
        "not reproduced"
    }
    same = early_exit.conclude(answers_with(0.5), answers(0.5, 0.5), against(0.5, 4), caps)
    assert set(words(same)) == {"undecided"}
    parts = [one for claim in same.claims for one in claim.parts]
    assert sum(one.alpha for one in parts) == pytest.approx(0.05), "95 % holds for all on which the verdict rests"
    assert [one.each for one in parts] == [2.0, 1.0] * 3, "the cap is compared on the second half"


def test_an_exit_that_ends_nothing_is_noted() -> None:
    base = answers_with(0.5, tokens=100)
    answers = {one.name: answers_with(0.5, tokens=100) for one in early_exit.EXITS} | {
        "guess-confidence": answers_with(0.5, tokens=50)
    }
    assert [note.split()[0] for note in early_exit.idle(base, answers)] == ["guess-agreement", "eat"]


def test_the_cap_has_the_mean_length_of_the_policy() -> None:
    found = [
        trace(f"q{n}", [" a"] * size, [0.1] * size, reasoning=size - 10) for n, size in enumerate((110, 210, 310, 410))
    ]
    spent = {("q0", 0): scored(1.0, 160), ("q1", 0): scored(1.0, 160)}
    cap = early_exit.cap_for(spent, found)
    assert np.mean([min(size, cap) + 10 for size in (100, 200, 300, 400)]) == pytest.approx(160, abs=1)
    longer = {("q0", 0): scored(1.0, 9000)}
    assert early_exit.cap_for(longer, found) == 400
