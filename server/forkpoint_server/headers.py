"""Headers of which a request may have one value only."""

from __future__ import annotations

from starlette.datastructures import Headers

from forkpoint_policies.spec import InputError


def single_header(headers: Headers, name: str) -> str | None:
    """The value of a header; None without one, or with an empty one. Raises InputError for two that differ.

    A gateway may add a header that the client has set too: which of the two is meant cannot be known. A proxy may join
    two equal lines to `a, a`, which is one value; any other value may have commas of its own.
    """
    stripped = (value.strip() for value in headers.getlist(name))
    return _only(name, {_joined_once(value) for value in stripped if value})


def single_name(headers: Headers, name: str) -> str | None:
    """The same for a header that holds a name, which has no commas."""
    parts = (part.strip() for value in headers.getlist(name) for part in value.split(","))
    return _only(name, {part for part in parts if part})


def _only(name: str, values: set[str]) -> str | None:
    if len(values) > 1:
        raise InputError(name, "is sent more than once, with different values; send it once")
    return next(iter(values), None)


def _joined_once(value: str) -> str:
    parts = {part.strip() for part in value.split(",")} - {""}
    return parts.pop() if len(parts) == 1 else value
