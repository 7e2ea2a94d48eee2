"""`connectors` finds planted effects, and only those."""

from __future__ import annotations

import pytest

from forkpoint_clients.findings.catalog import (
    connectors,
)
from tests.unit.clients.findings.synthetic import answers_with, words


def test_connectors_finds_what_is_planted() -> None:
    names = [one.name for one in connectors.TREATMENTS]
    hurt = [
        answers_with(0.9),
        answers_with(0.2),
        answers_with(0.9),
        answers_with(0.9),
        answers_with(0.9, tokens=60),
        answers_with(0.9),
        answers_with(0.9),
    ]
    assert words(connectors.conclude(dict(zip(names, hurt, strict=True)))) == ["reproduced", "reproduced"]
    harmless = [
        answers_with(0.5),
        answers_with(0.9),
        answers_with(0.5),
        answers_with(0.5),
        answers_with(0.1, tokens=130),
        answers_with(0.5),
        answers_with(0.5),
    ]
    assert words(connectors.conclude(dict(zip(names, harmless, strict=True)))) == ["not reproduced", "not reproduced"]
    same = [answers_with(0.5, seed=n) for n in range(7)]
    found = connectors.conclude(dict(zip(names, same, strict=True)))
    assert words(found) == ["undecided", "not reproduced"]  # traces of equal length are certainly not shorter
    assert found.claims[1].parts[0].estimate.value == pytest.approx(0.0, abs=0.05)
