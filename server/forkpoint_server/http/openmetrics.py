"""`/metrics` in OpenMetrics, which has exemplars: vLLM's route writes Prometheus' older text to everybody."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import REGISTRY, Metric
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


class _Families:
    """What the registry collects, as OpenMetrics allows it: a histogram with buckets below 0 has no sum, and may then
    have no count, which prometheus_client writes all the same."""

    def collect(self) -> Iterator[Metric]:
        for family in REGISTRY.collect():
            names = {sample.name for sample in family.samples}
            if family.type == "histogram" and f"{family.name}_sum" not in names:
                family.samples = [sample for sample in family.samples if sample.name != f"{family.name}_count"]
            yield family


def _page() -> bytes:
    """Without prometheus_client's escaping, which would rename the samples of `vllm:…`, but not their families."""
    page: bytes = generate_latest(_Families(), escaping=ALLOWUTF8)  # type: ignore[no-untyped-call]
    return page
