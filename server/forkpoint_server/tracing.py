"""OpenTelemetry: the request spans that vLLM emits, with what Forkpoint did to the request.

vLLM ends a span at the request's last token, before all of that is known: the span is held here until the response is
complete.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes
from opentelemetry.util.types import AttributeValue

from forkpoint_server.vllm_seam import SpanAttributes, get_span_exporter

OF_ALL = ("policy", "digest", "shadow", "experiment", "arm")
"""The attributes on the span of each further choice or branch; the first one's span has all."""
CONVENTIONAL = {
    gen_ai_attributes.GEN_AI_USAGE_OUTPUT_TOKENS: "tokens",
    gen_ai_attributes.GEN_AI_USAGE_REASONING_OUTPUT_TOKENS: "reasoning_tokens",
}
"""The figures that also have a name in the semantic conventions of generative AI."""


class RequestSpans(SpanProcessor):
    """Passes spans on; those of expected requests are held until `release` completes them."""

    def __init__(self, exporting: SpanProcessor) -> None:
        self._exporting = exporting
        self._held: dict[str, list[ReadableSpan]] = {}

    def expect(self, request_id: str) -> None:
        """Hold back the span of an engine request, until `release`."""
        self._held.setdefault(request_id, [])

    def release(self, request_id: str, attributes: Mapping[str, AttributeValue]) -> str | None:
        """Pass on the span of an engine request, with these attributes added. Its trace's id, None without a span."""
        trace_id = None
        for span in self._held.pop(request_id, ()):
            self._exporting.on_end(_with(span, attributes))
            trace_id = trace.format_trace_id(span.context.trace_id)
        return trace_id

    def on_end(self, span: ReadableSpan) -> None:
        held = self._held.get(str((span.attributes or {}).get(SpanAttributes.GEN_AI_REQUEST_ID)))
        if held is None:
            self._exporting.on_end(span)
        else:
            held.append(span)

    def shutdown(self) -> None:
        for request_id in list(self._held):
            self.release(request_id, {})
        self._exporting.shutdown()

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        return self._exporting.force_flush(timeout_millis)


def export_spans(endpoint: str | None) -> RequestSpans | None:
    """Set the tracer provider before vLLM does: OpenTelemetry uses the first. None without an endpoint.

    OpenTelemetry then logs vLLM's attempt to override it, which has no effect.
    """
    if endpoint is None:
        return None
    spans = RequestSpans(BatchSpanProcessor(get_span_exporter(endpoint)))
    provider = TracerProvider(resource=Resource.create({"vllm.instrumenting_module_name": "vllm.llm_engine"}))
    provider.add_span_processor(spans)
    trace.set_tracer_provider(provider)
    return spans


def span_attributes(figures: Mapping[str, Any], prefix: str = "forkpoint") -> dict[str, AttributeValue]:
    """A request's figures as span attributes: numbers and names, such as `forkpoint.interventions.suppress.fired`."""
    found: dict[str, AttributeValue] = {}
    for name, value in figures.items():
        if isinstance(value, Mapping):
            found |= span_attributes(value, f"{prefix}.{name}")
        elif isinstance(value, str | bool | int | float):
            found[f"{prefix}.{name}"] = value
    return found


def _with(span: ReadableSpan, attributes: Mapping[str, AttributeValue]) -> ReadableSpan:
    return ReadableSpan(
        name=span.name,
        context=span.context,
        parent=span.parent,
        resource=span.resource,
        attributes={**(span.attributes or {}), **attributes},
        events=span.events,
        links=span.links,
        kind=span.kind,
        status=span.status,
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )
