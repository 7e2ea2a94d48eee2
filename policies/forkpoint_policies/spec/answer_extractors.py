"""What an answer says, in a form in which two answers can be compared: votes are counted by it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

Extractor = Callable[[str], str | None]
"""From the text after the reasoning to its answer; None if it has none."""

JSON_FIELD = "json_field:"

_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?(?:[eE][+-]?\d+)?|-?\.\d+")
_BRACE = re.compile(r"\\boxed\s*\{|[{}]")

MAX_JSON_CHARACTERS = 1 << 13
"""How much of a text's end is searched for JSON: each brace may open an object that breaks off at the very end."""


def extractor(name: str) -> Extractor:
    """The extractor of a name, `json_field:PATH` with a path such as `result.value`.

    Raises ValueError when there is none.
    """
    if name.startswith(JSON_FIELD) and (path := name.removeprefix(JSON_FIELD)):
        return lambda text: _json_field(text, path.split("."))
    if name not in EXTRACTORS:
        raise ValueError(f"there is no extractor {name!r}; there are {', '.join(EXTRACTORS)} and {JSON_FIELD}NAME")
    return EXTRACTORS[name]


def _boxed(text: str) -> str | None:
    r"""What the last `\boxed{…}` holds, braces balanced; in linear time for any text."""
    opened: list[int | None] = []  # where the inside of each open brace starts, None for one that opens no box
    last: tuple[int, int] | None = None
    for found in _BRACE.finditer(text):
        if found[0] != "}":
            opened.append(found.end() if len(found[0]) > 1 else None)
        elif opened and (begin := opened.pop()) is not None:
            last = max(last or (0, 0), (begin, found.start()))
    if last is None or not (inside := _plain(text[slice(*last)])):
        return None
    return _as_number(inside) or inside


def _last_line(text: str) -> str | None:
    return next((line for one in reversed(text.splitlines()) if (line := _plain(one))), None)


def _last_number(text: str) -> str | None:
    found = _NUMBER.findall(text)
    return _as_number(found[-1]) if found else None


def _whole(text: str) -> str | None:
    return _plain(text) or None


def _json_field(text: str, path: list[str]) -> str | None:
    """A field of the last JSON object in the text."""
    text = text[-MAX_JSON_CHARACTERS:]
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
        read = Decimal(text.strip().replace(",", "").strip("$% "))
        value = read.normalize() if read.is_finite() else None
    except ArithmeticError:  # also for an exponent beyond all bounds
        return None
    if value is None:
        return None
    return "0" if value == 0 else format(value, "f") if abs(value.adjusted()) < 40 else str(value)


def _plain(text: str) -> str:
    """Without what does not change an answer: spaces, markup around it, a full stop at its end."""
    return " ".join(text.split()).strip("*`$ ").rstrip(".").strip("*`$ ")


EXTRACTORS: dict[str, Extractor] = {
    "boxed": _boxed,
    "last_line": _last_line,
    "last_number": _last_number,
    "text": _whole,
}
