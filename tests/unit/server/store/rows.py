"""Requests of experiments as they are recorded, made up for the tests."""

from __future__ import annotations

import secrets
import time
from typing import Any


def row(experiment: int, request_id: str, arm: str = "control", **fields: Any) -> dict[str, Any]:
    """One request."""
    return {
        "experiment": experiment, "request_id": request_id, "server": "here", "arm": arm, "unit": hash(request_id),
        "epoch": 0, "stratum": 0, "created": time.time(), "prompt_tokens": 10, "tokens": 100, "reasoning_tokens": 80,
        "latency_seconds": 2.0, "finish_reason": "stop", "error": 0, "truncated": 0, "mean_entropy": 0.5,
        "mean_entropy_forks": 1.0, "mean_entropy_execution": 0.1, "forks": 20, "triggered": 0, "response_id": None,
        "attempt": secrets.token_hex(8), "effect": 0.0, **fields,
    }  # fmt: skip
