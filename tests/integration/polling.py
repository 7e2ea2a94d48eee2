"""A server's health and load, and polling until a condition holds."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import httpx

from tests.processes.forkpoint_server import Server

PATIENCE_SECONDS = 90.0
RUNNING = ("vllm:num_requests_running", "vllm:num_requests_waiting", "forkpoint_choices_running")

_Seen = TypeVar("_Seen")


def until(look: Callable[[], _Seen], seconds: float = PATIENCE_SECONDS) -> _Seen:
    """The first true value of `look`, called ten times a second. Raises TimeoutError."""
    deadline = time.monotonic() + seconds
    while not (seen := look()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{seen!r} after {seconds:g} s")
        time.sleep(0.1)
    return seen


def health(server: Server) -> tuple[int, str]:
    """The status of /health, and its warnings in one text, without that of the fork threshold."""
    answer = httpx.get(f"{server.url}/health", timeout=60)
    return answer.status_code, "; ".join(
        one for one in answer.headers.get_list("X-Forkpoint-Warning") if "calibrat" not in one
    )


def running(server: Server) -> float:
    """The number of requests and choices that run or wait."""
    return sum(value for name, value in server.metrics().items() if name.startswith(RUNNING))
