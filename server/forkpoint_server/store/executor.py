"""Threads of the store's own: a database that does not answer must not use up those that requests are handled with."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import BoundedSemaphore
from typing import ParamSpec, TypeVar

MOST_THREADS = 16
MOST_WAITING = 256
"""Calls that run or wait for a thread; one more is refused."""

_THREADS = ThreadPoolExecutor(MOST_THREADS, "forkpoint-store")
_ROOM = BoundedSemaphore(MOST_WAITING)

_Given = ParamSpec("_Given")
_Found = TypeVar("_Found")


class BusyError(RuntimeError):
    """As many calls as there may be wait for the database."""


async def in_thread(function: Callable[_Given, _Found], *given: _Given.args, **options: _Given.kwargs) -> _Found:
    """What a function that may wait for the database gives. Raises BusyError."""
    if not _ROOM.acquire(blocking=False):
        raise BusyError
    try:
        return await asyncio.get_running_loop().run_in_executor(_THREADS, partial(function, *given, **options))
    finally:
        _ROOM.release()
