"""Wrong input to the policy language: short ways to write it, and the check that it is rejected with a useful error."""

from __future__ import annotations

import re
from typing import Any

import pytest

from forkpoint_policies.spec import InputError, parse_policy
from tests.unit.policies.factories import Json, policy, rule

Wrong = dict[str, tuple[Any, str, str]]
"""By a name: the input, the path of the field that the error names, and a pattern of what it says would be right."""


def suppress(**fields: Any) -> Json:
    return policy(rule(suppress=fields))


def amplify(**fields: Any) -> Json:
    return policy(rule(amplify=fields))


def when(**fields: Any) -> Json:
    return policy(rule(fields, observe={}))


def do(**fields: Any) -> Json:
    return policy(rule(**fields))


def check_rejected(data: Any, field: str, right: str) -> None:
    """The error names the field, says what would be right, and is in the user's terms, not the parser's."""
    with pytest.raises(InputError) as caught:
        parse_policy(data)
    assert caught.value.field == field
    assert re.search(right, caught.value.message), caught.value.message
    assert str(caught.value) == f"{field}: {caught.value.message}"
    for word in ["pydantic", "tuple", "dictionary", "instance", "Value error"]:
        assert word not in caught.value.message
