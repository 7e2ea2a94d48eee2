"""How large may be what is given as a policy: looked at before it is read, as reading takes as long as it is large."""

from __future__ import annotations

from typing import Any

MAX_LISTED = 4096
MAX_FIELDS = 64
MAX_DEPTH = 16
MAX_VALUES = 1 << 18


class SizeLimitError(ValueError):
    """Something given is too large; `path` is where, as in `.rules[0].do`."""

    def __init__(self, path: str, message: str) -> None:
        self.path = path
        super().__init__(message)


def check_size(data: Any) -> None:
    """Raise SizeLimitError for JSON-like data that no policy can be, by its lists, its fields or its depth, or by all together."""
    seen = 0
    waiting: list[tuple[Any, str, int]] = [(data, "", 0)]
    while waiting:
        value, path, depth = waiting.pop()
        if not isinstance(value, dict | list):
            continue
        kind, most = ("entries", MAX_LISTED) if isinstance(value, list) else ("fields", MAX_FIELDS)
        seen += len(value)
        if len(value) > most:
            raise SizeLimitError(path, f"has {len(value)} {kind}; nothing in a policy has more than {most}")
        if depth > MAX_DEPTH:
            raise SizeLimitError(path, f"is nested too deeply; at most {MAX_DEPTH} levels")
        if seen > MAX_VALUES:
            raise SizeLimitError("", f"is too large; at most {MAX_VALUES} values in all")
        if isinstance(value, dict):
            waiting += [(one, f"{path}.{name}", depth + 1) for name, one in value.items()]
        else:
            waiting += [
                (one, f"{path}[{place}]", depth + 1) for place, one in enumerate(value) if isinstance(one, dict | list)
            ]
