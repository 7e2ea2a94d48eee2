"""OpenTelemetry: the request span that vLLM emits says what Forkpoint did."""

from __future__ import annotations

import secrets
from typing import Any

import httpx
import openai
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.parser import text_string_to_metric_families as text_families

from tests.integration.puzzles import MESSAGES, summary_of
from tests.processes.forkpoint_server import Server
from tests.processes.span_collector import Collector

CALM: dict[str, Any] = {"name": "mine", "rules": [{"when": {"entropy_above": 0.3}, "do": {"temperature": 0.5}}]}
TREE: dict[str, Any] = {"rules": [{"when": {"entropy_above": 0.3}, "do": {"branch": {"depth": 1, "min_gap": 4}}}]}


def generate(client: openai.OpenAI, policy: Any, **options: Any) -> tuple[str, Any]:
    """The trace's id, and the answer of a request within that trace."""
    trace_id = secrets.token_hex(16)
    headers = {"traceparent": f"00-{trace_id}-{secrets.token_hex(8)}-01"}
    body = {"model": "countdown", "messages": MESSAGES, "max_tokens": 60, "seed": 5, **options}
    return trace_id, client.chat.completions.create(**body, extra_body={"policy": policy}, extra_headers=headers)


def test_a_span_says_all_of_the_forkpoint_object(client: openai.OpenAI, collector: Collector) -> None:
    trace_id, response = generate(client, CALM)
    (span,) = collector.of_trace(trace_id, 1)
    expected = summary_of(response)
    assert span.name == "llm_request"
    assert span.parent_id
    assert span.attributes["gen_ai.request.id"] in response.id
    assert span.attributes["gen_ai.response.id"] == response.id
    assert span.attributes["gen_ai.response.finish_reasons"] == [response.choices[0].finish_reason]
    assert span.attributes["gen_ai.usage.output_tokens"] == response.usage.completion_tokens
    assert span.attributes["gen_ai.usage.completion_tokens"] == response.usage.completion_tokens
    assert (
        span.attributes["forkpoint.interventions.temperature.fired"]
        == expected["interventions"]["temperature"]["fired"]
        > 0
    )
    assert span.attributes["forkpoint.mean_entropy"] == pytest.approx(expected["mean_entropy"])
    plain = {name: value for name, value in expected.items() if isinstance(value, str | int | float)}
    assert {name: span.attributes[f"forkpoint.{name}"] for name in plain} == plain


def test_a_stream_has_its_span_too(client: openai.OpenAI, collector: Collector) -> None:
    trace_id, stream = generate(client, CALM, stream=True)
    last = [chunk for chunk in stream if "forkpoint" in (chunk.model_extra or {})][-1]
    (span,) = collector.of_trace(trace_id, 1)
    assert span.attributes["gen_ai.response.id"] == last.id
    assert span.attributes["forkpoint.tokens"] == last.model_extra["forkpoint"]["tokens"] == 60


def test_branches_say_whose_they_are(client: openai.OpenAI, collector: Collector) -> None:
    trace_id, response = generate(client, TREE, n=3)
    spans = collector.of_trace(trace_id, 3)
    assert sorted(span.attributes["forkpoint.choice"] for span in spans) == [0, 1, 2]
    assert {span.attributes["gen_ai.response.id"] for span in spans} == {response.id}
    assert {span.attributes["forkpoint.digest"] for span in spans} == {summary_of(response)["digest"]}
    assert [
        span.attributes.get("forkpoint.branches") for span in spans if span.attributes["forkpoint.choice"] == 0
    ] == [2]
    assert sum("forkpoint.branches" in span.attributes for span in spans) == 1


def test_choices_say_whose_they_are(client: openai.OpenAI, collector: Collector) -> None:
    trace_id, response = generate(client, CALM, n=2)
    spans = collector.of_trace(trace_id, 2)
    assert sorted(span.attributes["forkpoint.choice"] for span in spans) == [0, 1]
    assert sum(span.attributes["gen_ai.usage.completion_tokens"] for span in spans) == response.usage.completion_tokens
    assert [one.attributes["forkpoint.tokens"] for one in spans if "forkpoint.tokens" in one.attributes] == [
        response.usage.completion_tokens
    ]


def test_an_exemplar_names_the_trace_to_who_asks_for_openmetrics(
    client: openai.OpenAI, server: Server, collector: Collector
) -> None:
    trace_id, response = generate(client, "observe", max_tokens=5)
    collector.of_trace(trace_id, 1)
    openmetrics = {"Accept": "application/openmetrics-text; version=1.0.0"}
    page = httpx.get(f"{server.url}/metrics", headers=openmetrics).raise_for_status().text
    marked = [line for line in page.splitlines() if trace_id in line]
    assert [line.partition("{")[0] for line in marked] == ["forkpoint_request_seconds_bucket"]
    assert f'# {{trace_id="{trace_id}"}}' in marked[0]
    assert 'policy="observe"' in marked[0]
    assert response.id not in page
    families = text_string_to_metric_families(page)  # type: ignore[no-untyped-call]  # raises on what is not allowed
    found = {sample.name for family in families for sample in family.samples}
    text = httpx.get(f"{server.url}/metrics").raise_for_status().text
    others = {sample.name for family in text_families(text) for sample in family.samples}
    assert found == others - {"forkpoint_readout_count"}, "its buckets begin below 0, so it has no sum and no count"
    assert "vllm:prompt_tokens_total" in found
    assert trace_id not in text


def test_a_request_without_a_policy_has_vllms_span(client: openai.OpenAI, collector: Collector) -> None:
    trace_id, _ = generate(client, "none")
    (span,) = collector.of_trace(trace_id, 1)
    assert span.attributes["gen_ai.usage.completion_tokens"] > 0
