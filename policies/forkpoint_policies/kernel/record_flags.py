"""The bits of a record's flags. No torch, so that the API process can read them."""

from __future__ import annotations

IN_REASONING = 1
LEFT_ALONE = 2
"""Masks would have left no token, so they did nothing."""
FORCED = 4
REFUSED = 8
"""A grammar forbids the token that a rule forces here."""
DRAFT = 16
"""The row comes after draft tokens, which may yet be rejected."""
RULES_SHIFT = 8
"""From this bit on, one bit per rule that fired, in the program's order."""
