"""Experiments as they are posted and changed: what is wrong is said with its field."""

from __future__ import annotations

from typing import Any

import pytest

from forkpoint_policies.spec import InputError, parse_policy
from forkpoint_server.errors import ApiError
from forkpoint_server.experiments.lifecycle import read_outcomes
from forkpoint_server.experiments.report import arm_weight, described, effects_of
from forkpoint_server.store.outcomes import Outcome

from .factories import HALVES, changed, define

RULES = [{"do": {"temperature": 0.5}}]


def arm(number: int, **fields: Any) -> list[dict[str, Any]]:
    """The two arms, one of them changed."""
    return [{**one, **(fields if place == number else {})} for place, one in enumerate(HALVES)]


@pytest.mark.parametrize(
    ("fields", "field", "says"),
    [
        ({"arms": HALVES[:1]}, "arms", "are too few: an experiment compares at least two"),
        ({"arms": arm(1, name="control")}, "arms", "'control' comes twice"),
        ({"arms": arm(1, weight=0.6)}, "arms", "sum to more than 1: there is no 0.1 left for 'calm'"),
        ({"arms": arm(0, weight=1.5)}, "arms[0].weight", "less than or equal to 1"),
        ({"arms": arm(0, weight=-0.5)}, "arms[0].weight", "greater than or equal to 0"),
        ({"arms": arm(0, weight="half")}, "arms[0].weight", "valid number"),
        ({"arms": [{**one, "weight": 0} for one in HALVES]}, "arms", "all have the weight 0"),
        ({"arms": arm(1, policy="nope")}, "arms[1].policy", "there is no policy 'nope'; there are"),
        (
            {"arms": arm(1, policy={"rules": [{"do": {"heat": 1}}]})},
            "arms[1].policy.rules[0].do.heat",
            "is not a field",
        ),
        ({"arms": arm(1, policy={"use": "nowait", "with": {"x": 1}})}, "arms[1].policy.with.x", "is not a parameter"),
        ({"arms": arm(1, policy=3)}, "arms[1].policy", "must be a policy's name or a policy object"),
        ({"arms": arm(0, shadow=True)}, "arms[0].shadow", "needs a policy"),
        ({"arms": arm(0, wieght=0.5)}, "arms[0].wieght", "is not a field here"),
        ({"arms": arm(0, status="stopped")}, "arms[0].status", "'running' or 'paused'"),
        ({"name": "One two"}, "name", "lower case"),
        ({"unit": "slice"}, "slice_seconds", "is given with the unit `slice`, and only with it"),
        ({"slice_seconds": 60}, "slice_seconds", "is given with the unit `slice`"),
        ({"unit": "two words"}, "unit", "is neither request, user, slice nor the name of a header"),
        ({"traffic": [0.5, 0.5], "layer": "l"}, "traffic", "the first must be the smaller one"),
        ({"traffic": [0, 0.5]}, "layer", "is missing"),
        ({"control": "nope"}, "control", "there is no arm 'nope'; there are control, calm"),
        (
            {"metrics": [{"name": "correct", "direction": "up", "role": "decision"}]},
            "metrics[0].direction",
            "'higher', 'lower'",
        ),
        (
            {"metrics": [{"name": "c", "direction": "neither", "role": "guardrail"}]},
            "metrics[0]",
            "must say which values are better",
        ),
        ({"metrics": 2 * [{"name": "c", "direction": "higher", "role": "decision"}]}, "metrics", "'c' comes twice"),
        ({"alpha": 0}, "alpha", "greater than 0"),
        ({"priority": 1.5}, "priority", "valid integer"),
        ({"colour": "red"}, "colour", "is not a field here"),
    ],
)
def test_wrong_definitions(fields: dict[str, Any], field: str, says: str) -> None:
    with pytest.raises(InputError) as raised:
        define(**fields)
    assert raised.value.field == field
    assert says in raised.value.message


def test_arms_keep_their_policies() -> None:
    arms = [
        {"name": "a", "weight": 0.2, "policy": "none"},
        {"name": "b", "weight": 0.2, "policy": "nowait", "shadow": True},
        {"name": "c", "weight": 0.2, "policy": {"use": "switch-penalty", "with": {"alpha": 5}}},
        {"name": "d", "weight": 0.2, "policy": {"name": "mine", "rules": RULES}},
    ]
    stored = define(arms=arms, control="b")
    shown = described(stored)
    assert [one["policy"] for one in shown["arms"]] == [one["policy"] for one in arms]
    assert [one["shadow"] for one in shown["arms"]] == [False, True, False, False]
    assert shown["control"] == "b"
    assert define().definition["control"] == "control"
    kept = [one["definition"] and parse_policy(one["definition"]) for one in stored.definition["arms"]]
    assert kept[0] is None
    assert [policy.digest for policy in kept[1:]] == [one["digest"] for one in shown["arms"][1:]]
    assert [one["label"] for one in stored.definition["arms"]] == [None, "nowait (shadow)", "switch-penalty", "inline"]


def test_what_can_be_changed() -> None:
    stored = define(arms=[{"name": "a", "weight": 0.1}, {"name": "b", "weight": 0.1}])
    raised = changed(stored, arms=[{"name": "a", "weight": 0.3}, {"name": "b", "weight": 0.3}])
    assert [arm_weight(raised, name) for name in "ab"] == [0.3, 0.3]
    assert raised.now.arms["a"]["intervals"] == [[0.0, 0.1, 0], [0.2, 0.4, 1]]
    paused = changed(raised, arms=[{"name": "b", "status": "paused"}])
    assert paused.now.arms["b"] == {**raised.now.arms["b"], "status": "paused"}
    assert changed(paused, status="paused").now == paused.now  # nothing of it changes how arms are shared out
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


def test_outcomes_as_they_are_posted() -> None:
    assert read_outcomes({"request_id": "a", "metrics": {"correct": True, "stars": 4}}) == [
        Outcome("a", "correct", 1.0),
        Outcome("a", "stars", 4.0),
    ]
    assert (
        read_outcomes([{"request_id": "a", "metrics": {"x": 1}}, {"request_id": "b", "metrics": {"x": 2}}])[
            1
        ].request_id
        == "b"
    )


@pytest.mark.parametrize(
    ("body", "field", "says"),
    [
        (3, "body", "must be an object"),
        ([{"request_id": "a", "metrics": {"x": 1}}, 3], "[1]", "must be an object"),
        ({"metrics": {"x": 1}}, "request_id", "must be the `id` of a response"),
        ({"request_id": "a"}, "metrics", "must be an object of numbers"),
        ({"request_id": "a", "metrics": {"x": "1"}}, "metrics.x", "must be a finite number, not '1'"),
        ({"request_id": "a", "metrics": {"x": None}}, "metrics.x", "must be a finite number"),
        ([{"request_id": "a", "metrics": {"x": float("nan")}}], "[0].metrics.x", "must be a finite number"),
        ({"request_id": "a", "metrics": {"x": 10**400}}, "metrics.x", "must be a finite number"),
        ({"request_id": "a", "metrics": {"tokens": 1}}, "metrics.tokens", "is measured by the server"),
        ({"request_id": "a", "metrics": {"two words": 1}}, "metrics.two words", "is no name of a metric"),
        ({"request_id": "a", "metrics": {"x": 1}, "arm": "b"}, "arm", "is not a field here"),
    ],
)
def test_wrong_outcomes(body: Any, field: str, says: str) -> None:
    with pytest.raises(InputError) as raised:
        read_outcomes(body)
    assert raised.value.field == field
    assert says in raised.value.message


def test_effects_of_a_query() -> None:
    assert effects_of(["correct:0.05", "a:b:2"]) == {"correct": 0.05, "a:b": 2.0}
    for wrong in ("correct", "correct:", ":1", "correct:nan", "correct:-1"):
        with pytest.raises(InputError, match="is not METRIC:SIZE"):
            effects_of([wrong])
