"""Only complete traces are used."""

from __future__ import annotations

from forkpoint_clients.findings.reading import traces
from tests.unit.clients.findings.synthetic import scored


def test_an_incomplete_trace_is_not_used() -> None:
    whole = {"tokens": [" a", " b"], "positions": [0, 1], "entropies": [0.1, 0.2], "in_reasoning": [1, 0]}
    assert len(traces({("q", 0): scored(1.0, trace=whole)})) == 1
    assert traces({("q", 0): scored(1.0, trace={**whole, "positions": [0, 2]})}) == []
    assert traces({("q", 0): scored(1.0)}) == []
