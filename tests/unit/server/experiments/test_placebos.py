"""Which arms of an experiment are the placebos of which."""

from __future__ import annotations

from typing import Any

import pytest

from forkpoint_server.experiments.placebos import placebos

from .factories import define


@pytest.mark.parametrize(
    ("placebo", "policy", "is_one"),
    [
        ("nowait.placebo", "nowait", True),
        ({"use": "nowait.placebo", "with": {"match": "dose", "strength": 2.1}}, "nowait", True),
        ({"use": "nowait.placebo", "with": {"match": "count"}}, {"use": "nowait"}, True),
        (
            {"use": "switch-penalty.placebo", "with": {"alpha": 5, "match": "count"}},
            {"use": "switch-penalty", "with": {"alpha": 5}},
            True,
        ),
        ("switch-penalty.placebo", {"use": "switch-penalty", "with": {"alpha": 5}}, False),
        ("thinking-ban.placebo", "nowait", False),
        ("nowait.placebo", {"use": "nowait", "shadow": True}, False),
        ("nowait.placebo", {"rules": [{"do": {"temperature": 0.5}}]}, False),
    ],
)
def test_a_placebo_is_that_of_the_arm_with_the_same_parameters(placebo: Any, policy: Any, is_one: bool) -> None:
    arms = [("control", None), ("random", placebo), ("own", policy)]
    stored = define(arms=[{"name": name, "policy": policy, "weight": 0.2} for name, policy in arms])
    assert placebos(stored.definition.arms) == ({"random": "own"} if is_one else {})


def test_an_arm_in_shadow_has_none() -> None:
    arms = [("control", None, False), ("random", "nowait.placebo", False), ("own", "nowait", True)]
    stored = define(arms=[{"name": name, "policy": policy, "weight": 0.2, "shadow": off} for name, policy, off in arms])
    assert placebos(stored.definition.arms) == {}
