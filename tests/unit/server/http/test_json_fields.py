"""The fields of a JSON object, each in its own bytes."""

from __future__ import annotations

import json

import pytest

from forkpoint_server.http.json_fields import field_value, object_fields, object_of


def test_fields_keep_their_bytes_and_their_order() -> None:
    fields = object_fields('{"b": 1.0E2, "a": [ 1, {"b": "\\u00e9"} ],"é": null}'.encode())
    assert fields == {"b": b"1.0E2", "a": b'[ 1, {"b": "\\u00e9"} ]', "é": b"null"}
    assert list(fields) == ["b", "a", "é"]
    assert object_of({**fields, "c": b"{}"}) == '{"b":1.0E2,"a":[ 1, {"b": "\\u00e9"} ],"é":null,"c":{}}'.encode()
    assert [field_value(fields, name) for name in ("b", "é", "none")] == [100.0, None, None]
    assert object_of({}) == b"{}"
    name = 'a "name"\n'
    assert json.loads(object_of({name: b"1"})) == {name: 1}


@pytest.mark.parametrize("body", [b"[1]", b"1", b"", b"{", b'{"a": NaN}', b"[" * 100_000])
def test_anything_else_has_no_fields(body: bytes) -> None:
    assert object_fields(body) is None
