"""What is recorded of a request of an experiment, by how it ended."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from forkpoint_server import metrics
from forkpoint_server.experiments.shadow_rules import TriggerDetector
from forkpoint_server.requests.recording import ExperimentRecording

from .recorded import context_of


def test_an_empty_id_names_no_request() -> None:
    """vLLM answers all requests with an empty X-Request-Id under one id."""
    rows = [recorded("stop", client_id=None, response_id="chatcmpl-") for _ in range(2)]
    assert len({row["request_id"] for row in rows}) == 2
    assert {row["response_id"] for row in rows} == {None}
    named = recorded("stop", client_id=None, response_id="chatcmpl-a")
    assert (named["request_id"], named["response_id"]) == ("chatcmpl-a", "chatcmpl-a")


def recorded(
    *finish_reasons: str, failed: bool = False, refused: bool = False, left: bool = False, **fields: Any
) -> dict[str, Any]:
    """The row of a request that ended so."""
    fields = {"client_id": "mine", "model_name": "test_recording", **fields}
    context = context_of({"temperature": 0.5}, **fields)
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
    assert (row["request_id"], row["response_id"]) == ("mine", None)
    assert (row["finish_reason"], row["error"]) == (finish_reason, error)
    assert failures._value.get() - before == error
