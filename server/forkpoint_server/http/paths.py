"""The routes that the middlewares treat differently."""

from __future__ import annotations

from starlette.types import Scope

HEALTH = "/health"
MODELS = "/v1/models"
FORKS = "/v1/forks"
PAGE = "/forkpoint"
OWN = ("/v1/policies", "/v1/experiments", "/v1/calibration")
"""Forkpoint's routes, but FORKS, that take a policy from no request."""


def path_of(scope: Scope) -> str:
    """The path of an HTTP request below the server's root; empty for other connections."""
    if scope["type"] != "http":
        return ""
    path: str = scope.get("path", "")
    return path.removeprefix(scope.get("root_path", ""))
