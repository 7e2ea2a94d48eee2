"""Threads of the store's own: a database that does not answer must not use up those that requests are handled with."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

MOST_THREADS = 16

_THREADS = ThreadPoolExecutor(MOST_THREADS, "forkpoint-store")

_Given = ParamSpec("_Given")
_Found = TypeVar("_Found")


async def in_thread(function: Callable[_Given, _Found], *given: _Given.args, **options: _Given.kwargs) -> _Found:
    """What a function that may wait for the database gives."""
    return await asyncio.get_running_loop().run_in_executor(_THREADS, partial(function, *given, **options))
