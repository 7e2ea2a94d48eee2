"""Headers that a gateway and its client both set."""

from __future__ import annotations

import pytest
from starlette.datastructures import Headers

from forkpoint_policies.spec import InputError
from forkpoint_server.headers import single_header


@pytest.mark.parametrize(
    ("values", "expected"), [([], None), ([""], None), (["a"], "a"), (["a", "a"], "a"), (["", "a", ""], "a")]
)
def test_one_value(values: list[str], expected: str | None) -> None:
    headers = Headers(raw=[(b"x-unit", value.encode()) for value in values])
    assert single_header(headers, "X-Unit") == expected


def test_two_values_are_rejected() -> None:
    headers = Headers(raw=[(b"x-unit", b"a"), (b"x-unit", b"b")])
    with pytest.raises(InputError, match="sent more than once") as raised:
        single_header(headers, "X-Unit")
    assert raised.value.field == "X-Unit"
