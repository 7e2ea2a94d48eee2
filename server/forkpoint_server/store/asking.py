"""The way from a route to the database, with a clear answer when it does not answer."""

from __future__ import annotations

import logging
from collections.abc import Callable
from http import HTTPStatus
from typing import ParamSpec, TypeVar

from sqlalchemy.exc import SQLAlchemyError

from forkpoint_server.errors import Refused

from .executor import BusyError, in_thread

logger = logging.getLogger(__name__)

_Given = ParamSpec("_Given")
_Found = TypeVar("_Found")


async def asking(function: Callable[_Given, _Found], *given: _Given.args, **options: _Given.kwargs) -> _Found:
    """What a function that uses the database gives. Raises Refused (503) when the database does not answer, or too many ask it."""
    try:
        return await in_thread(function, *given, **options)
    except BusyError:
        raise Refused(
            HTTPStatus.SERVICE_UNAVAILABLE, "the database has too much to do, so this was not acknowledged; try again"
        ) from None
    except SQLAlchemyError as error:
        logger.warning("the database does not answer (%s)", type(error).__name__)
        raise Refused(
            HTTPStatus.SERVICE_UNAVAILABLE, "the database does not answer, so this was not acknowledged; try again"
        ) from None
