"""`/metrics` in OpenMetrics, which has exemplars: vLLM's route writes Prometheus' older text to everybody."""

from __future__ import annotations

from prometheus_client import REGISTRY
from prometheus_client.openmetrics.exposition import ALLOWUTF8, generate_latest
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from .paths import METRICS, path_of

OPENMETRICS = "application/openmetrics-text"


class OpenMetrics:
    """Answers those who accept OpenMetrics; others get vLLM's answer. For a server with one process."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "GET" and path_of(scope) == METRICS and _accepted(scope):
            response = Response(await run_in_threadpool(_page), media_type=f"{OPENMETRICS}; version=1.0.0")
            await response(scope, receive, send)
        else:
            await self._app(scope, receive, send)


def _accepted(scope: Scope) -> bool:
    return OPENMETRICS in Headers(scope=scope).get("accept", "")


def _page() -> bytes:
    """Without prometheus_client's escaping, which would rename the samples of `vllm:…`, but not their families."""
    page: bytes = generate_latest(REGISTRY, escaping=ALLOWUTF8)  # type: ignore[no-untyped-call]
    return page
