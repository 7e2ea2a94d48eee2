"""The figures of a finished request: for its response, the metrics, its span and the database."""

from __future__ import annotations

from opentelemetry.semconv._incubating.attributes import gen_ai_attributes
from opentelemetry.util.types import AttributeValue

from forkpoint_server.tracing import CONVENTIONAL, OF_ALL, RequestSpans, span_attributes

from .context import RequestContext


def tell_spans(spans: RequestSpans, intervention: RequestContext) -> None:
    """Let a request's spans go, now that its response is complete."""
    told = intervention.summary()
    for request_id, choice in intervention.names.items():
        attributes: dict[str, AttributeValue] = {"forkpoint.choice": choice.choice}
        if intervention.response_id is not None:
            attributes[gen_ai_attributes.GEN_AI_RESPONSE_ID] = intervention.response_id
        if choice is intervention.traces[0]:
            attributes[gen_ai_attributes.GEN_AI_RESPONSE_FINISH_REASONS] = tuple(intervention.endings)
            attributes |= span_attributes(told) | {name: told[ours] for name, ours in CONVENTIONAL.items()}
        else:
            attributes |= span_attributes({name: told[name] for name in OF_ALL})
        spans.tell(request_id, attributes)
