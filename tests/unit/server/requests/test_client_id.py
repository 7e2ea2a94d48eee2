"""The id that a client chooses: the header's before the body's, and not without bound."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.datastructures import Headers

from forkpoint_policies.spec import InputError
from forkpoint_server.requests.client_id import client_id


@pytest.mark.parametrize(
    ("headers", "body", "expected"),
    [
        ({}, {}, None),
        ({"X-Request-Id": "h"}, {"request_id": "b"}, "h"),
        ({"X-Request-Id": ""}, {"request_id": "b"}, "b"),
        ({}, {"request_id": 7}, None),
        ({}, {"request_id": "b" * 256}, "b" * 256),
        ({"X-Request-Id": "ticket-ä".encode().decode("latin-1")}, {}, "ticket-ä"),
        ({"X-Request-Id": "ticket-\xe4"}, {}, "ticket-\xe4"),  # Latin-1, and no UTF-8
    ],
)
def test_the_id(headers: dict[str, str], body: dict[str, Any], expected: str | None) -> None:
    assert client_id(Headers(headers), body) == expected


@pytest.mark.parametrize(
    ("headers", "body", "field"),
    [
        ({"X-Request-Id": "h" * 257}, {}, "X-Request-Id"),
        ({}, {"request_id": "b" * 257}, "request_id"),
        ({"X-Request-Id": "h"}, {"request_id": "b" * 10**6}, "request_id"),
    ],
)
def test_a_long_id_is_rejected(headers: dict[str, str], body: dict[str, Any], field: str) -> None:
    with pytest.raises(InputError, match="an id has at most 256") as raised:
        client_id(Headers(headers), body)
    assert raised.value.field == field
    assert len(str(raised.value)) < 200


def test_half_of_a_character_is_refused() -> None:
    with pytest.raises(InputError, match="half of a character") as raised:
        client_id({}, {"request_id": "a\ud83c"})
    assert raised.value.field == "request_id"
    assert client_id({}, {"request_id": "\U0001f305 é"}) == "\U0001f305 é"
