"""Changes of experiments: which are allowed, and the errors for the others."""

from __future__ import annotations

from typing import Any

import pytest

from forkpoint_policies.spec import InputError
from forkpoint_server.errors import ApiError
from forkpoint_server.experiments.report import arm_weight

from .factories import changed, define


def test_allowed_changes_of_an_experiment() -> None:
    stored = define(arms=[{"name": "a", "weight": 0.1}, {"name": "b", "weight": 0.1}])
    raised = changed(stored, arms=[{"name": "a", "weight": 0.3}, {"name": "b", "weight": 0.3}])
    assert [arm_weight(raised, name) for name in "ab"] == [0.3, 0.3]
    assert raised.now.arms["a"].intervals == ((0.0, 0.1, 0), (0.2, 0.4, 1))
    paused = changed(raised, arms=[{"name": "b", "status": "paused"}])
    assert paused.now.arms["b"] == raised.now.arms["b"].model_copy(update={"status": "paused"})
    assert changed(paused, status="paused").now == paused.now  # this does not change the allocation of arms
    assert changed(changed(stored, status="paused"), status="running").status == "running"
    with pytest.raises(ApiError, match="is stopped, which is for good"):
        changed(changed(stored, status="stopped"), status="running")


@pytest.mark.parametrize(
    ("fields", "field", "says"),
    [
        ({}, "body", "changes nothing"),
        ({"arms": [{"name": "c", "weight": 0.5}]}, "arms[0].name", "there is no arm 'c'; there are control, calm"),
        ({"arms": [{"name": "calm", "weight": 0.4}]}, "arms[0].weight", "has 0.5 of all units and keeps them"),
        ({"arms": [{"name": "calm", "weight": 0.6}]}, "arms[0].weight", "sum to more than 1"),
        ({"unit": "user"}, "unit", "is not a field here"),
        ({"status": "gone"}, "status", "'running', 'paused' or 'stopped'"),
    ],
)
def test_wrong_changes(fields: dict[str, Any], field: str, says: str) -> None:
    with pytest.raises(InputError) as raised:
        changed(define(), **fields)
    assert raised.value.field == field
    assert says in raised.value.message
