"""Threads of the store's own, so that a database that hangs does not use up the threads that handle requests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http import HTTPStatus
from threading import BoundedSemaphore
from typing import ParamSpec, TypeVar

from sqlalchemy.exc import DataError, SQLAlchemyError

from forkpoint_server.errors import ApiError

MAX_THREADS = 16
MAX_CALLS = 256
"""Calls that run or wait for a thread; one more is refused."""

_THREADS = ThreadPoolExecutor(MAX_THREADS, "forkpoint-store")
_CALLS = BoundedSemaphore(MAX_CALLS)

_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")


class UnavailableError(ApiError):
    """503: the database failed or has too many calls waiting. `__cause__` is the database's error, if there is one."""

    def __init__(self, reason: str) -> None:
        super().__init__(HTTPStatus.SERVICE_UNAVAILABLE, f"{reason}, so this was not acknowledged; try again")


async def in_thread(
    function: Callable[_Parameters, _Result], *args: _Parameters.args, **options: _Parameters.kwargs
) -> _Result:
    """Call a function that may wait for the database.

    Raises UnavailableError, ApiError (500) for values that the database rejects, and what the function raises.
    """
    if not _CALLS.acquire(blocking=False):
        raise UnavailableError("the database has too much to do")
    try:
        return await asyncio.get_running_loop().run_in_executor(_THREADS, partial(function, *args, **options))
    except DataError as error:
        message = "the database cannot compute with these values, or cannot store them; nothing of this was stored"
        raise ApiError(HTTPStatus.INTERNAL_SERVER_ERROR, message) from error
    except SQLAlchemyError as error:
        raise UnavailableError("the database does not answer") from error
    finally:
        _CALLS.release()
