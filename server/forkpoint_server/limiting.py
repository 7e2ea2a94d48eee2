"""How much of a request is read: a body has to be in memory before anything can be said about it."""

from __future__ import annotations

from http import HTTPStatus

from starlette.datastructures import Headers
from starlette.types import Message, Receive, Scope

from .errors import Refused

MOST_OWN_BYTES = 16 << 20
"""Of a body for one of our own routes: a text of a million tokens, or ten thousand outcomes, is well below."""


def limited(scope: Scope, receive: Receive, most_bytes: int) -> Receive:
    """A `receive` that raises Refused (413) for a body that is larger, or that says it will be."""
    stated = Headers(scope=scope).get("content-length", "0")
    left = most_bytes - (int(stated) if stated.isdecimal() and int(stated) > most_bytes else 0)

    async def counted() -> Message:
        nonlocal left
        if left >= 0:
            message = await receive()
            left -= len(message.get("body", b""))
            if left >= 0:
                return message
        said = f"is larger than {most_bytes >> 20} MiB, which is as much as is read here"
        raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"body: {said}", "body")

    return counted
