"""Receives OpenTelemetry spans over HTTP as a collector does, for the tests."""

from __future__ import annotations

import gzip
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue

PATIENCE_SECONDS = 30


@dataclass(frozen=True)
class Span:
    """A received span: its trace's id in hexadecimal digits, and its attributes."""

    trace_id: str
    parent_id: str
    name: str
    attributes: dict[str, Any]


@dataclass
class Collector:
    """Where the spans went that were sent to `endpoint`."""

    endpoint: str
    spans: list[Span] = field(default_factory=list)

    def of_trace(self, trace_id: str, number: int) -> list[Span]:
        """The spans of a trace, as soon as there are so many. Raises TimeoutError."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            found = [span for span in list(self.spans) if span.trace_id == trace_id]
            if len(found) >= number:
                return found
            time.sleep(0.1)
        raise TimeoutError(f"{number} spans of trace {trace_id} were expected; all that came: {self.spans}")


@contextmanager
def collecting() -> Iterator[Collector]:
    """A collector, until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers["Content-Length"]))
            request = ExportTraceServiceRequest()
            request.ParseFromString(gzip.decompress(raw) if self.headers.get("Content-Encoding") == "gzip" else raw)
            collector.spans += [
                Span(
                    span.trace_id.hex(),
                    span.parent_span_id.hex(),
                    span.name,
                    {one.key: _value(one.value) for one in span.attributes},
                )
                for resource in request.resource_spans
                for scope in resource.scope_spans
                for span in scope.spans
            ]
            self.send_response(200)
            self.end_headers()

        def log_message(self, *args: Any, **named: Any) -> None:
            """Say nothing: the test's output is not the collector's log."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        collector = Collector(f"http://127.0.0.1:{listening.server_port}/v1/traces")
        thread = Thread(target=listening.serve_forever)
        thread.start()
        try:
            yield collector
        finally:
            listening.shutdown()
            thread.join()


def _value(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(one) for one in value.array_value.values]
    return getattr(value, kind) if kind else None
