"""What a library file holds."""

from __future__ import annotations

from dataclasses import dataclass

from ..spec import Policy


@dataclass(frozen=True)
class Entry:
    """A named policy, and in `caution` where its evidence is weak."""

    policy: Policy
    caution: str
