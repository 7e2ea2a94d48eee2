"""Size limits of untrusted input, checked before parsing: the time to parse grows with the size.

Within them, pydantic would still make an object of every error of a list, which takes ten times as long as reading a
right one, although only the first is reported; hence `fail_fast` on the lists of the language.
"""

from __future__ import annotations

from typing import Any

MAX_LISTED = 4096
MAX_FIELDS = 64
MAX_DEPTH = 16
MAX_VALUES = 1 << 18


class SizeLimitError(ValueError):
    """Input that is too large; `path` says where, as in `.rules[0].do`."""

    def __init__(self, path: str, message: str) -> None:
        self.path = path
        super().__init__(message)


def check_size(data: Any) -> None:
    """Raise SizeLimitError for JSON-like data with too long lists, too many fields, too deep nesting or too many values
    in all."""
    seen = 0
    waiting: list[tuple[Any, str, int]] = [(data, "", 0)]
    while waiting:
        value, path, depth = waiting.pop()
        if not isinstance(value, dict | list):
            continue
        kind, most = ("entries", MAX_LISTED) if isinstance(value, list) else ("fields", MAX_FIELDS)
        seen += len(value)
        if len(value) > most:
            raise SizeLimitError(path, f"has {len(value)} {kind}; {most} at most")
        if depth > MAX_DEPTH:
            raise SizeLimitError(path, f"is nested too deeply; at most {MAX_DEPTH} levels")
        if seen > MAX_VALUES:
            raise SizeLimitError("", f"is too large; at most {MAX_VALUES} values in all")
        if isinstance(value, dict):
            waiting += [
                (one, f"{path}.{name}", depth + 1) for name, one in value.items() if isinstance(one, dict | list)
            ]
        else:
            waiting += [
                (one, f"{path}[{index}]", depth + 1) for index, one in enumerate(value) if isinstance(one, dict | list)
            ]
