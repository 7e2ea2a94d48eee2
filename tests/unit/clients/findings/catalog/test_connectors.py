"""`connectors` finds planted effects, and only those."""

from __future__ import annotations

import pytest

from forkpoint_clients.findings.catalog import connectors
from tests.unit.clients.findings.synthetic import Answers, answers_with, words

BASE, BAN, BAN_DOSE, NOWAIT = "no policy", "thinking-ban", "thinking-ban, placebo by dose", "nowait"


def planted(**by_name: Answers) -> dict[str, Answers]:
    """Equal answers of all arms, except these."""
    names = [*(one.name for one in connectors.TREATMENTS), BAN_DOSE, "nowait, placebo by dose"]
    own = {"base": BASE, "ban": BAN, "dose": BAN_DOSE, "nowait": NOWAIT}
    return {name: answers_with(0.9) for name in names} | {own[key]: answers for key, answers in by_name.items()}


def test_connectors_finds_what_is_planted() -> None:
    hurt = planted(ban=answers_with(0.2), nowait=answers_with(0.9, tokens=60))
    assert words(connectors.conclude(hurt)) == ["reproduced", "reproduced"]
    harmless = planted(dose=answers_with(0.5), nowait=answers_with(0.1, tokens=130))
    assert words(connectors.conclude(harmless)) == ["not reproduced", "not reproduced"]
    same = {name: answers_with(0.5, seed=number) for number, name in enumerate(planted())}
    found = connectors.conclude(same)
    assert words(found) == ["undecided", "not reproduced"]  # traces of equal length are certainly not shorter
    assert found.claims[1].parts[0].estimate.value == pytest.approx(0.0, abs=0.05)


def test_the_verdict_rests_on_the_placebo_by_dose_alone() -> None:
    """The ban hurts more than its weak placebos, and no more than one of its dose."""
    as_bad = planted(ban=answers_with(0.2), dose=answers_with(0.2, seed=1))
    found = connectors.conclude(as_bad, {BAN_DOSE: {"use": "thinking-ban.placebo"}})
    assert words(found)[0] == "undecided"
    assert any("thinking-ban.placebo" in note for note in found.notes)
    rows = [row[0] for row in found.tables[0].rows]
    assert rows[:3] == [BASE, BAN, BAN_DOSE]
    assert "thinking-ban, placebo by probability" in rows


@pytest.mark.parametrize("has_placebo", [True, False])
def test_nothing_is_concluded_from_a_placebo_with_too_little_of_the_dose(has_placebo: bool) -> None:
    weak = planted(
        ban=answers_with(0.2), dose=answers_with(0.9, interventions={"suppress": {"fired": 3, "effect": 0.7}})
    )
    if not has_placebo:
        del weak[BAN_DOSE]
    found = connectors.conclude(weak)
    assert words(found)[0] == "undecided"
    assert any(note.startswith("No conclusion on thinking-ban: the ") for note in found.notes)
