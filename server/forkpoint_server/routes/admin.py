"""Who may change policies, experiments and calibrations."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from http import HTTPStatus

from fastapi import Request

from forkpoint_server.errors import ApiError


def admin_only(key: str | None) -> Callable[[Request], Awaitable[None]]:
    """A dependency for routes: raises ApiError (401) unless the request carries the key; without a key all may."""

    async def check(request: Request) -> None:
        if key is None:
            return
        scheme, _, sent = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not secrets.compare_digest(sent.encode(), key.encode()):
            raise ApiError(
                HTTPStatus.UNAUTHORIZED, "needs the server's admin key: Authorization: Bearer KEY (--admin-api-key)"
            )

    return check
