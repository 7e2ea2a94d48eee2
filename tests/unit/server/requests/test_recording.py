"""What is recorded of a request of an experiment, by how it ended."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from forkpoint_server import metrics
from forkpoint_server.experiments.shadow_rules import TriggerDetector
from forkpoint_server.requests.recording import ExperimentRecording

from .recorded import context_of


def recorded(*finish_reasons: str, failed: bool = False, refused: bool = False, left: bool = False) -> dict[str, Any]:
    """The row of a request that ended so."""
    context = context_of({"temperature": 0.5}, client_id="mine", model_name="test_recording")
    context.enrolment = SimpleNamespace(  # type: ignore[assignment]
        live=SimpleNamespace(stored=SimpleNamespace(name="trial", id=1, now=SimpleNamespace(number=0))),
        arm=SimpleNamespace(name="calm"), detector=TriggerDetector(context.compiled, {}), unit=2**63, stratum=0,
    )  # fmt: skip
    context.finish_reasons += finish_reasons
    rows: list[dict[str, Any]] = []
    experiments: Any = SimpleNamespace(start_request=lambda enrolment: 1, end_request=lambda ticket: None)
    recorder: Any = SimpleNamespace(put=rows.append)
    ExperimentRecording(context, experiments, recorder).end(failed, refused, left, None)
    return rows[0]


@pytest.mark.parametrize(
    ("ended", "finish_reason", "error"),
    [
        ({}, "stop", 0),
        ({"left": True}, "abort", 0),
        ({"failed": True}, "error", 1),
        ({"refused": True}, "refused", 0),
    ],
)
def test_how_a_request_ended(ended: dict[str, bool], finish_reason: str, error: int) -> None:
    """A 4xx is the client's fault, and no error of the arm."""
    failures = metrics.FAILED.labels("test_recording", "trial", "calm")
    before = failures._value.get()
    row = recorded("stop", **ended)
    assert (row["finish_reason"], row["error"]) == (finish_reason, error)
    assert failures._value.get() - before == error
