"""The unit of a request: what keeps its arm, such as a person, a header's value or a field of the body."""

from __future__ import annotations

import json
import re
import secrets
import time
from collections.abc import Mapping
from typing import Any

from starlette.datastructures import Headers

from forkpoint_server.headers import single_header

UNITS = ("request", "user", "slice")
HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}")
PATH_START = "body."
PATH = re.compile(r"body(\.[^.\s]+)+")

CLAUDE_CODE = re.compile(r"user_(?P<device>[^_]+)_account_(?P<account>[^_]*)_session_.*", re.DOTALL)
"""What Claude Code sent as `metadata.user_id` before it sent JSON."""


def unit_problem(unit: str) -> str | None:
    """What is wrong with an experiment's `unit`; None if nothing is."""
    if unit.startswith("/"):
        return f"{unit!r} is no path here; write one into the body with dots, as in body.metadata.team"
    if unit.startswith(PATH_START) or unit == PATH_START.rstrip("."):
        return None if PATH.fullmatch(unit) else f"{unit!r} is not a path into the body, such as body.metadata.team"
    if unit in UNITS or HEADER_NAME.fullmatch(unit):
        return None
    return f"{unit!r} is neither {', '.join(UNITS)} nor the name of a header, nor a path such as body.metadata.team"


def unit_of(unit: str, slice_seconds: float | None, body: Mapping[str, Any], headers: Headers) -> str | None:
    """The unit of a request, or None when the request does not name it.

    `unit` is "request" (a fresh unit each time), "slice" (the current time slice), "user" (a person), a path into the
    body, or the name of a header. Raises InputError for a header that has two values.
    """
    if unit == "request":
        return secrets.token_hex(16)
    if unit == "slice":
        return slice_of(time.time(), slice_seconds or 1.0)
    if unit == "user":
        return user_of(body)
    if unit.startswith(PATH_START):
        return _text(_value_at(body, unit.removeprefix(PATH_START)))
    return single_header(headers, unit)


def slice_of(seconds: float, slice_seconds: float) -> str:
    """The unit of an experiment that switches all traffic back and forth: the number of the time slice since 1970."""
    return str(int(seconds // slice_seconds))


def user_of(body: Mapping[str, Any]) -> str | None:
    """The person that a body names: in `safety_identifier`, in the older `user`, or in `metadata.user_id`."""
    for path in ("safety_identifier", "user", "metadata.user_id"):
        value = _value_at(body, path)
        if isinstance(value, str) and (person := person_of(value)):
            return person
    return None


def person_of(user: str) -> str | None:
    """The person in a user's id: agents put the account, the device and the session into one text.

    The session changes with each start of the agent, so it is never part of the unit.
    """
    if match := CLAUDE_CODE.fullmatch(user):
        return match["account"] or match["device"]
    if not user.lstrip().startswith("{"):
        return user or None
    try:
        fields = json.loads(user)
    except (ValueError, RecursionError):
        return user
    for name in ("account_uuid", "device_id"):
        if text := _text(fields.get(name)):
            return text
    others = {name: value for name, value in fields.items() if "session" not in name.lower() and value}
    return json.dumps(others, sort_keys=True) if others else None


def _value_at(body: Mapping[str, Any], path: str) -> Any:
    value: Any = body
    for name in path.split("."):
        if not isinstance(value, Mapping):
            return None
        value = value.get(name)
    return value


def _text(value: Any) -> str | None:
    """A text or a whole number as a unit; None for anything else, and for an empty text."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    return str(value) or None
