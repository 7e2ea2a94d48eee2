"""The error that names the field and what would be right."""

from __future__ import annotations


class InputError(ValueError):
    """A policy that cannot be used; `field` is the path of what is wrong, as in `policy.rules[0].do`."""

    def __init__(self, field: str, message: str) -> None:
        self.field = field
        self.message = message
        super().__init__(f"{field}: {message}")
