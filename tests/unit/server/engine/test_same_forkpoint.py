"""A worker's complaint, found in what vLLM makes of it."""

from __future__ import annotations

import pytest

from forkpoint_server.engine.same_forkpoint import CHECK, problem_in

SAID = "Forkpoint differs on host2: version 0.1.0 there, 0.2.0 on the server; install the same on all machines"


@pytest.mark.parametrize(
    "message",
    [
        SAID,
        f"Call to collective_rpc method failed: {SAID}",
        f"Call to collective_rpc method failed: Worker failed with error '{SAID}', please check the stack trace above",
    ],
)
def test_it_is_found(message: str) -> None:
    assert problem_in(message) == SAID


def test_a_worker_that_cannot_be_asked_is_older() -> None:
    message = f"Call to collective_rpc method failed: 'Worker' object has no attribute '{CHECK}'"
    assert "its Forkpoint is older" in (problem_in(message) or "")


def test_other_errors_stay_what_they_are() -> None:
    assert problem_in("EngineCore encountered an issue") is None
