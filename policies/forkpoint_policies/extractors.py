"""What an answer says, in a form in which two answers can be compared: votes are counted by it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import Any

Extractor = Callable[[str], str | None]
"""Given the text after the reasoning, what it answers; None where nothing of the kind is there."""

JSON_FIELD = "json_field:"

_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?(?:[eE][+-]?\d+)?|-?\.\d+")
_BOXED = re.compile(r"\\boxed\s*\{")


def extractor(name: str) -> Extractor:
    """The extractor of a name, `json_field:PATH` with a path such as `result.value`. Raises ValueError when there is none."""
    if name.startswith(JSON_FIELD) and (path := name.removeprefix(JSON_FIELD)):
        return lambda text: _json_field(text, path.split("."))
    if name not in EXTRACTORS:
        raise ValueError(f"there is no extractor {name!r}; there are {', '.join(EXTRACTORS)} and {JSON_FIELD}NAME")
    return EXTRACTORS[name]


def _boxed(text: str) -> str | None:
    r"""What the last `\boxed{…}` holds, braces balanced."""
    for found in reversed(list(_BOXED.finditer(text))):
        depth = 1
        for at in range(found.end(), len(text)):
            depth += {"{": 1, "}": -1}.get(text[at], 0)
            if depth == 0:
                return _as_number(inside) or inside if (inside := _plain(text[found.end() : at])) else None
    return None


def _last_line(text: str) -> str | None:
    return next((line for one in reversed(text.splitlines()) if (line := _plain(one))), None)


def _last_number(text: str) -> str | None:
    found = _NUMBER.findall(text)
    return _as_number(found[-1]) if found else None


def _whole(text: str) -> str | None:
    return _plain(text) or None


def _json_field(text: str, path: list[str]) -> str | None:
    """A field of the last JSON object in the text."""
    decoder, found, at = json.JSONDecoder(), None, text.find("{")
    while at >= 0:
        try:
            value, after = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            after = at + 1
        else:
            found = value
        at = text.find("{", after)
    value = found
    for name in path:
        if not isinstance(value, dict) or name not in value:
            return None
        value = value[name]
    return _canonical(value) or None


def _canonical(value: Any) -> str:
    if isinstance(value, str):
        return _as_number(value) or _plain(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _as_number(str(value)) or str(value)
    return json.dumps(value, sort_keys=True)


def _as_number(text: str) -> str | None:
    """A number in one spelling: 1,000.50 and 1000.5 are the same."""
    try:
        value = Decimal(text.strip().replace(",", "").strip("$% "))
    except InvalidOperation:
        return None
    if not value.is_finite():
        return None
    return "0" if value == 0 else format(value.normalize(), "f") if abs(value.adjusted()) < 40 else str(value.normalize())


def _plain(text: str) -> str:
    """Without what does not change an answer: spaces, markup around it, a full stop at its end."""
    return " ".join(text.split()).strip("*`$ ").rstrip(".").strip("*`$ ")


EXTRACTORS: dict[str, Extractor] = {
    "boxed": _boxed,
    "last_line": _last_line,
    "last_number": _last_number,
    "text": _whole,
}
