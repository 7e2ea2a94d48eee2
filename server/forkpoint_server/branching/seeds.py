"""Seeds of branches, derived from the request's seed."""

from __future__ import annotations

import hashlib


def derived_seed(seed: int, position: int, token: int) -> int:
    """The seed of a branch: equal for equal paths through the tree."""
    return int.from_bytes(hashlib.sha256(f"{seed} {position} {token}".encode()).digest()[:8], "big") >> 1
