"""The fields of a JSON object as bytes, to replace or add some: the others are neither parsed nor written anew.

A response can hold megabytes of log probabilities, and a parser holds up all other requests until its end.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import msgspec

_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])


def object_fields(body: bytes) -> dict[str, bytes] | None:
    """The JSON of each field, in their order; None for anything but a JSON object."""
    try:
        return {name: bytes(value) for name, value in _OBJECT.decode(body).items()}
    except msgspec.DecodeError:
        return None


def object_of(fields: Mapping[str, bytes]) -> bytes:
    """The JSON object with these fields."""
    return b"{" + b",".join(to_json(name) + b":" + value for name, value in fields.items()) + b"}"


def field_value(fields: Mapping[str, bytes], name: str) -> Any:
    """A field's value; None if there is no such field."""
    return json.loads(fields[name]) if name in fields else None


def to_json(value: Any) -> bytes:
    """JSON as vLLM's handlers write it."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
