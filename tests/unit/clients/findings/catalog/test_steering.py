"""`steering` finds planted effects, and only those; it counts thoughts that begin with a doubt."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from forkpoint_clients.evaluate.asker import Answer, Asker, Choice
from forkpoint_clients.evaluate.datasets import Item
from forkpoint_clients.evaluate.journal import Journal
from forkpoint_clients.evaluate.scorers import scorer
from forkpoint_clients.findings.catalog import steering
from forkpoint_clients.findings.lab import CannotError, Lab, LabSetting
from forkpoint_clients.findings.reading import ScoredChoices
from tests.unit.clients.findings.synthetic import Answers, answers_with, words
from tests.unit.clients.stub_server import error, stub_server

ARMS = ("no policy", steering.SEAL, steering.DIRECTION, steering.POSITIONS)


def thinking(right: float, doubting: float, seed: int, tokens: float = 100) -> Answers:
    """Answers of ten thoughts; each but the first begins with a doubt with this probability."""
    random = np.random.default_rng(seed)

    def doubtful(scored: ScoredChoices) -> ScoredChoices:
        thoughts = ["Start.", *("Wait, 2." if random.random() < doubting else "So 3." for _ in range(9))]
        (choice,) = scored.answer.choices
        return replace(scored, answer=replace(scored.answer, choices=(replace(choice, reasoning=" ".join(thoughts)),)))

    return {key: doubtful(scored) for key, scored in answers_with(right, tokens, seed).items()}


def planted(**by_name: Answers) -> dict[str, Answers]:
    """Arms that differ by chance only, except these."""
    own = dict(zip(("base", "seal", "direction", "positions"), ARMS, strict=True))
    return {name: thinking(0.5, 0.4, seed) for seed, name in enumerate(ARMS)} | {
        own[key]: answers for key, answers in by_name.items()
    }


def test_steering_finds_what_is_planted() -> None:
    helps = planted(seal=thinking(0.95, 0.05, seed=5, tokens=60))
    assert words(steering.conclude(helps, ".")) == ["reproduced", "measured"]
    hurts = planted(seal=thinking(0.05, 0.9, seed=5))
    assert words(steering.conclude(hurts, ".")) == ["not reproduced", "measured otherwise"]
    assert words(steering.conclude(planted(), "."))[1] == "undecided"


def test_a_random_direction_that_does_the_same_decides_against_nothing() -> None:
    same = planted(seal=thinking(0.95, 0.05, seed=7, tokens=60), direction=thinking(0.95, 0.05, seed=11, tokens=60))
    found = steering.conclude(same, ".")
    assert words(found) == ["undecided", "undecided"]
    assert [row[0] for row in found.tables[0].rows] == list(ARMS)
    parts = found.claims[0].parts
    assert sum(part.alpha for part in parts) == pytest.approx(0.05), "95 % holds for all on which the verdict rests"


def acting(times: int, answers: Answers) -> Answers:
    """The answers as if the policy had acted so often in each."""

    def often(scored: ScoredChoices) -> ScoredChoices:
        summary = {"interventions": {"steer": {"fired": times, "effect": 0.0}}}
        return replace(scored, answer=replace(scored.answer, forkpoint=summary))

    return {key: often(scored) for key, scored in answers.items()}


@pytest.mark.parametrize(("times", "said"), [(10, []), (8, []), (7, ["positions acted 7.0 times an answer"])])
def test_a_placebo_that_acts_less_often_is_named(times: int, said: list[str]) -> None:
    answers = planted()
    answers |= {name: acting(10, answers[name]) for name in (steering.SEAL, steering.DIRECTION)}
    answers[steering.POSITIONS] = acting(times, answers[steering.POSITIONS])
    notes = [note for note in steering.conclude(answers, ".").notes if "times an answer" in note]
    assert len(notes) == len(said)
    assert all(part in note for part, note in zip(said, notes, strict=True))


@pytest.mark.parametrize(
    ("reasoning", "ending", "share"),
    [
        ("First. Wait, 3.5 is it. So 4. But no", ".", 2 / 3),
        ("But first.", ".", None),
        ("", ".", None),
        ("One. Wait\n\nHmm, two\n\n\nSo three", "\n\n", 1 / 2),
        ("One. DOUBLE-CHECK it. butter", ".", 1 / 2),
    ],
)
def test_thoughts_with_doubts(reasoning: str, ending: str, share: float | None) -> None:
    scored = ScoredChoices(Answer((Choice("4", reasoning, "stop"),)), (1.0,))
    assert steering.doubts(ending)(scored) == (share if share is None else pytest.approx(share))


def test_thoughts_end_at_blank_lines_if_the_model_writes_some() -> None:
    assert steering.ending_of(["a\n\nb", "a\n\nb.", "a. b"]) == "\n\n"
    assert steering.ending_of(["a\n\nb", "a. b", "a. c", ""]) == "."
    assert steering.ending_of([]) == "."


async def test_a_server_without_hooks_is_asked_nothing(tmp_path: Path) -> None:
    said = "rules[0].do.steer: needs a server that was started with --hidden-layers, and the layers of the vector"

    def refuse(path: str, body: dict[str, Any] | None) -> tuple[int, Any]:
        return 400, error(said)

    with stub_server(lambda _: (500, error("not to be asked")), refuse) as server:
        async with Asker(server.url, "m", retries=0) as asker:
            with Journal(tmp_path, {}) as journal:
                item = Item("q", ({"role": "user", "content": "2 + 2?"},), "4")
                lab = Lab(LabSetting([item], [item], scorer("exact")), asker, journal)
                with pytest.raises(CannotError, match="started with --hidden-layers"):
                    await steering.retest(lab)
        assert server.requests == []
