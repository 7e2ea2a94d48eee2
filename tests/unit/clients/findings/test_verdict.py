"""Verdicts follow from intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from forkpoint_clients.evaluate.datasets import Item
from forkpoint_clients.evaluate.scorers import scorer
from forkpoint_clients.findings.catalog import (
    fork_validity,
)
from forkpoint_clients.findings.lab import LabSetting
from forkpoint_clients.findings.verdict import Claim, Criterion, Verdict, combined
from tests.unit.clients.findings.synthetic import part


@pytest.mark.parametrize(
    ("one", "word"),
    [
        (part(0.01, 0.2), "reproduced"),
        (part(-0.2, -0.01), "not reproduced"),
        (part(-0.2, -0.01, "below"), "reproduced"),
        (part(0.01, 0.2, "below"), "not reproduced"),
        (part(-0.01, 0.2), "undecided"),
        (part(-0.01, 0.2, "below"), "undecided"),
        (part(-0.03, 0.02, bound=-0.05), "reproduced"),
        (part(-0.09, 0.02, bound=-0.05), "undecided"),
        (part(-0.2, -0.06, bound=-0.05), "not reproduced"),
        (part(0.0, 0.2), "undecided"),
        (part(math.nan, math.nan, value=1.0), "undecided"),
        (part(1.0, 1.0), "undecided"),
        (part(0.5 - 1e-16, 0.5 + 1e-16), "undecided"),
        (part(math.nextafter(0.5, 0), math.nextafter(0.5, 1)), "undecided"),
    ],
)
def test_a_verdict_follows_from_its_interval(one: Criterion, word: str) -> None:
    assert one.verdict.word == word


def test_an_undecided_verdict_reports_the_needed_number_of_questions() -> None:
    near, far = part(-0.09, 0.11).verdict, part(-0.02, 0.18).verdict
    assert near.needed is not None
    assert far.needed is not None
    assert near.needed > far.needed > 100  # more for a smaller difference, and always more than there were
    # 0.01 from zero with an error of 0.2 / 3.92: 100 * ((1.96 + 0.84) * 0.051 / 0.01)**2
    assert near.needed == pytest.approx(20_430, rel=0.01)
    assert "n needed: 20," in str(near)
    assert str(part(math.nan, math.nan, value=0.0).verdict) == "undecided"
    assert part(-0.1, 0.1).verdict.needed is None  # no number of questions can exclude zero


def test_needed_questions_include_those_that_are_not_verified() -> None:
    """The figure may be that of every fifth question only."""
    every, fifth = part(-0.02, 0.18), replace(part(-0.02, 0.18), each=5.0)
    assert every.verdict.needed is not None
    assert fifth.verdict.needed == 5 * every.verdict.needed
    assert (replace(fifth, questions=6).verdict.needed or 0) >= 5 * 10
    items = [Item("q", ())] * 100
    setting = LabSetting(items, items, scorer("exact"))
    assert (len(setting.verified), len(replace(setting, items=items[:10]).verified)) == (20, 10)
    tested = [
        fork_validity.TestedPosition(f"q{n}", high, 1.0, n % (3 if high else 4) == 0, 0.2)
        for n in range(24)
        for high in (True, False)
    ]
    alone, shared = fork_validity.conclude(tested, 0.5, 8), fork_validity.conclude(tested, 0.5, 8, each=5.0)
    assert alone.verdict.needed is not None
    assert shared.verdict.needed == 5 * alone.verdict.needed


def test_few_questions_decide_nothing() -> None:
    verdict = replace(part(0.1, 0.2), questions=9).verdict
    assert (verdict.word, verdict.needed) == ("undecided", 10)


@pytest.mark.parametrize(
    ("words", "word"),
    [
        (["reproduced", "reproduced"], "reproduced"),
        (["reproduced", "undecided"], "undecided"),
        (["undecided", "not reproduced"], "not reproduced"),
        ([], "undecided"),
    ],
)
def test_a_claim_holds_when_all_of_it_does(words: Sequence[Any], word: str) -> None:
    assert combined([Verdict(one, 7 if one == "undecided" else None) for one in words]).word == word


def test_a_claim_of_our_own_is_measured() -> None:
    """Nobody published it, so there is nothing to reproduce; a published claim beside it gives its word to both."""
    holds, fails, open_ = part(0.1, 0.2), part(-0.2, -0.1), part(-0.1, 0.2)
    own = [Claim("c", "s", (one,), own=True) for one in (holds, fails, open_)]
    assert [claim.verdict.word for claim in own] == ["measured", "measured otherwise", "undecided"]
    assert own[2].verdict.needed == open_.verdict.needed
    assert own[0].verdict_of(fails).word == "measured otherwise"
    published = Claim("c", "s", (holds,)).verdict
    assert combined([own[0].verdict]).word == "measured"
    assert combined([own[0].verdict, published]).word == "reproduced"
    assert combined([own[1].verdict, published]).word == "measured otherwise"
    assert combined([own[2].verdict, published]).word == "undecided"
