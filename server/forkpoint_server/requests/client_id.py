"""The id that a client chose for its request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from forkpoint_policies.spec import InputError

HEADER = "x-request-id"
FIELD = "request_id"
MAX_LENGTH = 256


def client_id(headers: Mapping[str, str], body: Mapping[str, Any]) -> str | None:
    """The header X-Request-Id, which vLLM prefers, or the body's `request_id`; None without either.

    Raises InputError for one that is too long, or no text that UTF-8 can write: it is stored with the request's trace
    and in the experiment's database.
    """
    in_header, in_body = _as_sent(headers.get(HEADER)), body.get(FIELD)
    for field, chosen in (("X-Request-Id", in_header), (FIELD, in_body)):
        if isinstance(chosen, str) and len(chosen) > MAX_LENGTH:
            raise InputError(field, f"has {len(chosen)} characters; an id has at most {MAX_LENGTH}")
        if isinstance(chosen, str) and any("\ud800" <= character <= "\udfff" for character in chosen):
            raise InputError(field, "has half of a character (an unpaired surrogate, \\ud800 to \\udfff)")
    chosen = in_header or in_body
    return chosen if isinstance(chosen, str) and chosen else None


def _as_sent(header: str | None) -> str | None:
    """A header's text: Starlette reads its bytes as Latin-1, but clients send, and write in a path, UTF-8."""
    try:
        return header and header.encode("latin-1").decode()
    except UnicodeError:
        return header
