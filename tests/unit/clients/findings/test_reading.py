"""Only complete traces are used."""

from __future__ import annotations

import numpy as np

from forkpoint_clients.findings.reading import trace_of, traces
from tests.unit.clients.findings.synthetic import scored


def test_an_incomplete_trace_is_not_used() -> None:
    whole = {"tokens": [" a", " b"], "positions": [0, 1], "entropies": [0.1, 0.2], "in_reasoning": [1, 0]}
    assert len(traces({("q", 0): scored(1.0, trace=whole)})) == 1
    assert traces({("q", 0): scored(1.0, trace={**whole, "positions": [0, 2]})}) == []
    assert traces({("q", 0): scored(1.0)}) == []


def test_signals_of_hidden_states_are_stored_with_the_trace() -> None:
    choice = {"tokens": [" a", " b"], "positions": [0, 1], "entropies": [0.1, 0.2], "in_reasoning": [True, False]}
    assert "hidden" not in trace_of({"choices": [choice]})
    stored = trace_of({"choices": [{**choice, "hidden": {"effective_rank": [None, 3.5]}}]})
    (read,) = traces({("q", 0): scored(1.0, trace=stored)})
    np.testing.assert_equal(read.hidden, {"effective_rank": np.array([np.nan, 3.5])})
    assert list(traces({("q", 0): scored(1.0, trace=trace_of({"choices": [choice]}))})[0].hidden) == []
