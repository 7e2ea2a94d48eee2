"""The warnings about a run's answers."""

from __future__ import annotations

from forkpoint_clients.ab import cautions
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
    assert "nowait.placebo changed 2.0 tokens per answer, the policy 9.0" in said
    assert "2 arms are compared with none" in said
    assert "not complete" not in said
