"""The warnings about a run's answers."""

from __future__ import annotations

from dataclasses import replace

import pytest

from forkpoint_clients.ab import cautions
from forkpoint_clients.ab.arms import arm, placebos
from forkpoint_clients.ab.comparison import compare
from tests.unit.clients.ab.synthetic import made


def test_warnings() -> None:
    arms = {
        **made("none", 0.5, 100, 1, cut=True),
        **made("nowait", 0.5, 200, 2, 9.0),
        **made("nowait.placebo", 0.5, 101, 3, 2.0),
    }
    said = " ".join(cautions.warnings(compare(arms, ["none", "nowait", "nowait.placebo"], 360)))
    assert "of the answers of none are truncated at the length limit" in said
    assert "The answers of nowait are longer than those of none" in said
    assert (
        "nowait changed 0.0449 tokens per token, nowait.placebo 0.0197 (0.44 of it): so the comparison is not" in said
    )
    assert "2 arms are compared with none" in said
    assert "not complete" not in said


def test_arms_of_other_lengths_are_one_sentence() -> None:
    arms = {**made("none", 0.5, 100, 1), **made("long", 0.5, 200, 2), **made("short", 0.5, 50, 3)}
    assert (
        "The answers of long are longer than those of none, and those of short are shorter than those of none: "
        "compare them at equal length."
    ) in cautions.warnings(compare(arms, ["none", "long", "short"], 360))


@pytest.mark.parametrize(("questions", "said"), [(1, "1 question is few"), (2, "2 questions are few"), (30, None)])
def test_few_questions(questions: int, said: str | None) -> None:
    compared = replace(compare(made("none", 0.5, 100, 1), ["none"], 120), questions=questions)
    warned = [one for one in cautions.warnings(compared) if " few" in one]
    assert warned[0].startswith(said) if said else not warned


def test_doses_are_those_of_a_token() -> None:
    """Answers twice as long with twice the effect are of the same dose; placebos are known by what they use, too."""
    arms = {**made("long", 0.5, 200, 1, 8.0), **made("short", 0.5, 100, 1, 4.0), **made("weak", 0.5, 100, 1, 3.0)}
    compared = compare(arms, ["long", "short", "weak"], 360)
    assert compared.arms[0].dose == pytest.approx(0.04, rel=0.02)
    assert not any("doses" in one for one in cautions.warnings(compared, {"short": "long"}))
    assert any("not of equal doses" in one for one in cautions.warnings(compared, {"weak": "long"}))
    assert placebos([arm("a=nowait"), arm('b={"use": "nowait.placebo", "with": {"match": "count"}}'), arm("deer")]) == {
        "b": "a"
    }
