"""Threads of the store's own: a database that does not answer must not use up those that requests are handled with."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http import HTTPStatus
from threading import BoundedSemaphore
from typing import ParamSpec, TypeVar

from sqlalchemy.exc import SQLAlchemyError

from forkpoint_server.errors import ApiError

logger = logging.getLogger(__name__)

MAX_THREADS = 16
MAX_WAITING = 256
"""Calls that run or wait for a thread; one more is refused."""

_THREADS = ThreadPoolExecutor(MAX_THREADS, "forkpoint-store")
_ROOM = BoundedSemaphore(MAX_WAITING)

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


async def asking(function: Callable[_Given, _Found], *given: _Given.args, **options: _Given.kwargs) -> _Found:
    """What a function that uses the database gives. Raises ApiError (503) when the database does not answer, or too many ask it."""
    try:
        return await in_thread(function, *given, **options)
    except BusyError:
        raise ApiError(
            HTTPStatus.SERVICE_UNAVAILABLE, "the database has too much to do, so this was not acknowledged; try again"
        ) from None
    except SQLAlchemyError as error:
        logger.warning("the database does not answer (%s)", type(error).__name__)
        raise ApiError(
            HTTPStatus.SERVICE_UNAVAILABLE, "the database does not answer, so this was not acknowledged; try again"
        ) from None
