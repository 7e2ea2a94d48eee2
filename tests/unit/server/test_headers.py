"""Headers that a gateway and its client both set, and that a proxy may join."""

from __future__ import annotations

import pytest
from starlette.datastructures import Headers

from forkpoint_policies.spec import InputError
from forkpoint_server.headers import single_header, single_name


def headers_of(*values: str) -> Headers:
    return Headers(raw=[(b"x-unit", value.encode()) for value in values])


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], None),
        ([""], None),
        ([" ", ""], None),
        (["a"], "a"),
        (["a", "a"], "a"),
        (["", "a", ""], "a"),
        (["a, a"], "a"),
        (["a, a", "a"], "a"),
        (["Doe, Jane"], "Doe, Jane"),
    ],
)
def test_one_value(values: list[str], expected: str | None) -> None:
    assert single_header(headers_of(*values), "X-Unit") == expected


def test_two_values_are_rejected() -> None:
    with pytest.raises(InputError, match="sent more than once") as raised:
        single_header(headers_of("a", "b"), "X-Unit")
    assert raised.value.field == "X-Unit"


@pytest.mark.parametrize(
    ("values", "name"),
    [([], None), ([","], None), (["a"], "a"), (["a,a"], "a"), (["a,", "a"], "a"), ([" a , "], "a")],
)
def test_a_name_has_no_commas(values: list[str], name: str | None) -> None:
    assert single_name(headers_of(*values), "X-Unit") == name


@pytest.mark.parametrize("values", [["a, b"], ["a", "b"], ["a,a", "b"]])
def test_two_names_are_rejected(values: list[str]) -> None:
    with pytest.raises(InputError, match="sent more than once"):
        single_name(headers_of(*values), "X-Unit")
