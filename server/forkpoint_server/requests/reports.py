"""Reports as JSON: long ones are made in a thread, one at a time, so that no other request waits for them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from typing import Any, TypeVar

import msgspec

from forkpoint_server.errors import ApiError

MAX_WAITING = 64
RETRY_SECONDS = 1

_Made = TypeVar("_Made")


class ReportThread:
    """A thread that makes reports; with `max_waiting` of them waiting for it, one more is refused."""

    def __init__(self, max_waiting: int = MAX_WAITING) -> None:
        self._thread = ThreadPoolExecutor(1, "forkpoint-reports")
        self._max_waiting = max_waiting
        self._unfinished = 0

    async def make(self, make: Callable[[], _Made]) -> _Made:
        """What `make` returns. Raises ApiError (503) where too many wait, and what `make` raises."""
        if self._unfinished > self._max_waiting:
            raise ApiError(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "too many reports are being made; send the request again later",
                retry_seconds=RETRY_SECONDS,
            )
        self._unfinished += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, make)
        finally:
            self._unfinished -= 1

    async def json(self, make: Callable[[], dict[str, Any]]) -> bytes:
        """The JSON of the report that `make` returns. Raises as `make` of this class does."""
        return await self.make(lambda: report_to_json(make()))


def report_to_json(report: dict[str, Any]) -> bytes:
    """JSON, encoded in pieces: the encoder keeps all other threads waiting during each call."""
    fields = (msgspec.json.encode(name) + b":" + _value_to_json(value) for name, value in report.items())
    return b"{" + b",".join(fields) + b"}"


def _value_to_json(value: Any) -> bytes:
    if isinstance(value, list):
        return b"[" + b",".join(map(msgspec.json.encode, value)) + b"]"
    return msgspec.json.encode(value)
