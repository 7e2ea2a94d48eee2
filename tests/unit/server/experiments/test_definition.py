"""Experiments as they are posted: an error names the field and what is wrong."""

from __future__ import annotations

from typing import Any

import pytest

from forkpoint_policies.spec import InputError
from forkpoint_policies.spec.size_limits import SizeLimitError

from .factories import HALVES, define


def arm(number: int, **fields: Any) -> list[dict[str, Any]]:
    """The two arms, one of them changed."""
    return [{**one, **(fields if index == number else {})} for index, one in enumerate(HALVES)]


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
        ({"unit": "slice"}, "slice_seconds", "is required with the unit `slice`, and allowed only with it"),
        ({"slice_seconds": 60}, "slice_seconds", "is required with the unit `slice`"),
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


@pytest.mark.parametrize(
    "fields",
    [
        {"arms": [{}] * 100_000},
        {"arms": [{}] * 1_000},
        {"metrics": [{f"field{number}": 1 for number in range(60)}] * 1_000},
        {f"field{number}": 1 for number in range(100_000)},
        {"arms": [{"name": "a", "policy": {"rules": [[[1] * 4_000] * 4_000]}}]},
    ],
)
def test_of_many_errors_the_first_is_enough(fields: dict[str, Any]) -> None:
    """Pydantic would make an object of each, which holds up everybody else's requests."""
    with pytest.raises(InputError) as raised:
        define(**fields)
    validation = raised.value.__context__
    assert isinstance(validation, SizeLimitError) or validation.error_count() < 100  # type: ignore[union-attr]
