"""Who may change policies, experiments and calibrations."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from http import HTTPStatus

from fastapi import Request

from forkpoint_server.errors import ApiError


def is_admin(request: Request, key: str | None) -> bool:
    """Whether a request carries the key; without a key all are the admin's."""
    if key is None:
        return True
    scheme, _, sent = request.headers.get("authorization", "").partition(" ")
    return scheme.lower() == "bearer" and secrets.compare_digest(sent.encode(), key.encode())


def admin_only(key: str | None) -> Callable[[Request], Awaitable[None]]:
    """A dependency for routes: raises ApiError (401) unless the request carries the key; without a key all may."""

    async def check(request: Request) -> None:
        if not is_admin(request, key):
            raise ApiError(
                HTTPStatus.UNAUTHORIZED, "needs the server's admin key: Authorization: Bearer KEY (--admin-api-key)"
            )

    return check
