"""What an answer says, in a form in which two answers can be compared: votes are counted by it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

from forkpoint_policies.answers.mathematics import mathematics
from forkpoint_policies.answers.notation import one_notation, without_markup
from forkpoint_policies.answers.numbers import last_number, number, plain_number
from forkpoint_policies.answers.statement import statement

Extractor = Callable[[str], str | None]
"""From the text after the reasoning to its answer; None if it has none."""

JSON_FIELD = "json_field:"

_BRACE = re.compile(r"\\(?:boxed|fbox)\s*\{|(?<!\\)[{}]")
_EMPTY_BOX = re.compile(r"\\(?:boxed|fbox)(?:\s*\{\s*\}|\s*$)")
_BARE = re.compile(r"\\(?:boxed|fbox)(?![A-Za-z{])\s*(?P<inside>[^\s{}$][^\s$]*)")

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


def _boxes(text: str) -> Iterator[str]:
    r"""What each `\boxed{…}` holds, braces balanced, or the word after `\boxed`; from the last on, in linear time."""
    opened: list[int | None] = []  # where the inside of each open brace starts, None for one that opens no box
    found = [(bare.start("inside"), bare.end()) for bare in _BARE.finditer(text)]
    for brace in _BRACE.finditer(text):
        if brace[0] != "}":
            opened.append(brace.end() if len(brace[0]) > 1 else None)
        elif opened and (start := opened.pop()) is not None:
            found.append((start, brace.start()))
    return (text[slice(*one)] for one in sorted(found, reverse=True))


def _boxed(text: str) -> str | None:
    """The last box that holds something."""
    return next((answer for inside in _boxes(text) if (answer := value_of(inside))), None)


def _boxed_text(text: str) -> str | None:
    """The last box, character by character."""
    return next(_boxes(text), None) or None


def formula(text: str) -> str | None:
    """The part of a text that states its answer as a formula: what its last box holds, or else what it says."""
    boxed = next((inside for inside in _boxes(text) if without_markup(inside)), None)
    return boxed or statement(_EMPTY_BOX.sub("", text))


def _math(text: str) -> str | None:
    stated = formula(text)
    return None if stated is None else mathematics(stated)


def _last_line(text: str) -> str | None:
    return next((line for one in reversed(text.splitlines()) if (line := _text(one))), None)


def _whole(text: str) -> str | None:
    return _text(text) or None


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
        return value_of(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return number(str(value)) or str(value)
    return json.dumps(value, sort_keys=True)


def value_of(text: str) -> str:
    r"""A text as `boxed` compares it: a number in one spelling; or a text in one notation: `\text{Paris}` is Paris."""
    text = without_markup(text)
    return number(text.strip("$ ")) or without_markup(one_notation(text))


def _text(text: str) -> str:
    """A text without what does not change it. All digits with a sign and separators, it is a number in one spelling."""
    text = without_markup(text)
    return plain_number(text) or text


COMPUTED = frozenset({"math"})
"""Extractors that may wait for a computation of seconds, in a process of its own."""

EXTRACTORS: dict[str, Extractor] = {
    "boxed": _boxed,
    "boxed_text": _boxed_text,
    "last_line": _last_line,
    "last_number": last_number,
    "math": _math,
    "text": _whole,
}
