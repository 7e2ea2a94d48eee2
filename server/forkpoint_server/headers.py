"""Headers of which a request may have one value only."""

from __future__ import annotations

from starlette.datastructures import Headers

from forkpoint_policies.spec import InputError


def single_header(headers: Headers, name: str) -> str | None:
    """The value of a header; None without one, or with an empty one. Raises InputError for two that differ.

    A gateway may add a header that the client has set too: which of the two is meant cannot be known.
    """
    values = dict.fromkeys(value for value in headers.getlist(name) if value)
    if len(values) > 1:
        raise InputError(name, "is sent more than once, with different values; send it once")
    return next(iter(values), None)
