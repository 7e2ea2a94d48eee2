"""The unit of a request: a person whatever the client puts around it, a header, or a path into the body."""

from __future__ import annotations

import json
from typing import Any

import pytest
from starlette.datastructures import Headers

from forkpoint_policies.spec import InputError
from forkpoint_server.experiments.units import person_of, unit_of, unit_problem, user_of

ACCOUNT, DEVICE = "f81d4fae-7dec-11d0-a765-00a0c91e6bf6", "9f86d081884c7d65"


@pytest.mark.parametrize(
    ("user", "person"),
    [
        ("alice", "alice"),
        ("", None),
        ("{not json", "{not json"),
        (json.dumps({"device_id": DEVICE, "account_uuid": ACCOUNT, "session_id": "1"}), ACCOUNT),
        (json.dumps({"device_id": DEVICE, "account_uuid": "", "session_id": "1"}), DEVICE),
        (json.dumps({"device_id": DEVICE, "account_uuid": None, "session_id": "1"}), DEVICE),
        (json.dumps({"session_id": "1"}), None),
        (json.dumps({"team": "b", "sessionId": "1", "org": "a"}), '{"org": "a", "team": "b"}'),
        (f"user_{DEVICE}_account_{ACCOUNT}_session_1", ACCOUNT),
        (f"user_{DEVICE}_account__session_2", DEVICE),
    ],
)
def test_a_user_is_a_person(user: str, person: str | None) -> None:
    assert person_of(user) == person


@pytest.mark.parametrize(
    ("body", "person"),
    [
        ({"user": "old", "safety_identifier": "new"}, "new"),
        ({"user": "old", "safety_identifier": ""}, "old"),
        ({"user": "old", "metadata": {"user_id": "m"}}, "old"),
        ({"metadata": {"user_id": json.dumps({"account_uuid": ACCOUNT, "session_id": "1"})}}, ACCOUNT),
        ({"user": json.dumps({"session_id": "1"}), "metadata": {"user_id": "m"}}, "m"),
        ({"user": 7}, None),
        ({"metadata": "text"}, None),
        ({}, None),
    ],
)
def test_where_a_body_names_its_user(body: dict[str, Any], person: str | None) -> None:
    assert user_of(body) == person


@pytest.mark.parametrize(
    ("body", "unit"),
    [
        ({"metadata": {"team": "blue"}}, "blue"),
        ({"metadata": {"team": 7}}, "7"),
        ({"metadata": {"team": ""}}, None),
        ({"metadata": {"team": True}}, None),
        ({"metadata": {"team": ["blue"]}}, None),
        ({"metadata": ["team"]}, None),
        ({}, None),
    ],
)
def test_a_path_into_the_body(body: dict[str, Any], unit: str | None) -> None:
    assert unit_of("body.metadata.team", None, body, Headers()) == unit


def test_a_header() -> None:
    assert unit_of("X-Account", None, {}, Headers({"x-account": "a"})) == "a"
    assert unit_of("X-Account", None, {}, Headers({"x-account": ""})) is None
    with pytest.raises(InputError) as raised:
        unit_of("X-Account", None, {}, Headers(raw=[(b"x-account", b"a"), (b"x-account", b"b")]))
    assert raised.value.field == "X-Account"


@pytest.mark.parametrize("unit", ["user", "request", "slice", "X-Account", "body.metadata.team", "body.user"])
def test_units_that_an_experiment_can_have(unit: str) -> None:
    assert unit_problem(unit) is None


@pytest.mark.parametrize(
    ("unit", "says"),
    [
        ("/metadata/team", "write one into the body with dots, as in body.metadata.team"),
        ("body", "is not a path into the body"),
        ("body.", "is not a path into the body"),
        ("body..team", "is not a path into the body"),
        ("two words", "is neither request, user, slice nor the name of a header, nor a path"),
    ],
)
def test_units_that_are_rejected(unit: str, says: str) -> None:
    assert says in (unit_problem(unit) or "")
