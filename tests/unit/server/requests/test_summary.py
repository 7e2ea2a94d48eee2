"""The figures of a request, from its tokens and records."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes
from prometheus_client import REGISTRY, CollectorRegistry, Histogram, generate_latest

from forkpoint_policies.compile.regions import Region
from forkpoint_policies.worker.records import FORCED, IN_REASONING, LEFT_ALONE, REFUSED, RULES_SHIFT
from forkpoint_server import metrics
from forkpoint_server.experiments.shadow_rules import TriggerDetector
from forkpoint_server.requests.context import RequestContext
from forkpoint_server.requests.summary import (
    count_in_metrics,
    experiment_record,
    num_generated_tokens,
    release_spans,
    summary,
)
from forkpoint_server.requests.tree import Tree
from forkpoint_server.store.built_in_metrics import SUMMARY_COLUMNS
from forkpoint_server.traces.trace import Trace
from tests.unit.policies.vocabularies import END, END_THINK, TARGET, tokens
from tests.unit.server.requests.recorded import add_record, context_of

SUPPRESS = {"suppress": {"connectors": ["reflection"]}}
COOL = {"temperature": 0.5}
WAIT, SO = tokens("Wait|so")
FIRST, SECOND = 1 << RULES_SHIFT, 1 << RULES_SHIFT + 1


def answered(label: str = "it") -> RequestContext:
    """Two tokens of reasoning, its end, and one token of the answer; two of the four are forks."""
    context = context_of(SUPPRESS, COOL, label=label, num_prompt_tokens=7)
    assert context.compiled.actions == ("suppress", "temperature")
    trace = Trace(handle=1, choice=0, tokens=[WAIT, SO, END_THINK, END], ended=True)
    trace.start_in(TARGET.regions, Region.REASONING)
    add_record(trace, 0, 1.0, IN_REASONING | FIRST, (0.25, 0.0))
    add_record(trace, 1, 0.5, IN_REASONING | LEFT_ALONE | FIRST | SECOND, (0.125, 0.125))
    add_record(trace, 2, 2.0, IN_REASONING)
    add_record(trace, 3, 0.1, FORCED | REFUSED | SECOND)
    context.traces.append(trace)
    return context


def test_the_figures_of_a_policy() -> None:
    figures = summary(answered())
    assert figures["policy"] == "it"
    assert figures["digest"] is not None
    assert (figures["tokens"], figures["forks"], figures["complete"]) == (4, 2, True)
    assert figures["mean_entropy"] == pytest.approx(0.9, abs=1e-4)
    assert figures["mean_entropy_forks"] == pytest.approx(1.5, abs=1e-4)
    assert figures["mean_entropy_execution"] == pytest.approx(0.3, abs=1e-4)
    assert figures["reasoning_tokens"] == 2, "the marker that ends the reasoning does not count"
    assert figures["interventions"] == {
        "suppress": {"fired": 2, "effect": 0.375},
        "temperature": {"fired": 2, "effect": 0.125},
    }
    assert (figures["left_alone"], figures["forced"], figures["refused"]) == (1, 1, 1)
    assert (figures["experiment"], figures["arm"], figures["branches"], figures["tokens_shared"]) == (None, None, 0, 0)


def test_an_observed_request_names_no_policy_and_counts_no_intervention() -> None:
    figures = summary(answered(label="none"))
    assert (figures["policy"], figures["digest"], figures["shadow"]) == (None, None, False)
    assert figures["interventions"] == {}
    assert figures["forks"] == 2


def test_records_that_are_missing_and_requests_without_tokens() -> None:
    context = answered()
    context.traces[0].tokens.append(END)
    assert not summary(context)["complete"]
    empty = summary(context_of(SUPPRESS))
    assert (empty["tokens"], empty["mean_entropy"], empty["mean_entropy_forks"], empty["complete"]) == (
        0,
        None,
        None,
        True,
    )


def test_the_tokens_of_a_tree_are_counted_once() -> None:
    context = context_of(SUPPRESS, tree=Tree())
    assert context.tree is not None
    trunk, branch = Trace(1, 0, tokens=[WAIT, SO, END]), Trace(2, 1, tokens=[END], first_position=2)
    root = context.tree.add(trunk, None, 0, (), "answer")
    context.tree.add(branch, root, 1, (WAIT,), "answer")
    context.traces += [trunk, branch]
    figures = summary(context)
    assert num_generated_tokens(context) == figures["tokens"] == 5
    assert (figures["branches"], figures["tokens_shared"]) == (1, 1)
    assert num_generated_tokens(answered()) is None, "vLLM's own count is right"


def test_what_the_answers_of_a_tree_say() -> None:
    context = context_of(SUPPRESS, tree=Tree())
    assert context.tree is not None
    root = context.tree.add(Trace(1, 0, tokens=[WAIT, END]), None, 0, (), "answer")
    probe = context.tree.add(Trace(2, 1, tokens=[END]), root, 1, (WAIT,), "probe")
    branch = context.tree.add(Trace(3, 2, tokens=[END]), root, 1, (WAIT,), "answer")
    root.answer, probe.answer, branch.answer, branch.choice = None, "7", "4" * 1000, 0
    assert summary(context)["answers"] == [
        {"index": 0, "choice": None, "answer": None},
        {"index": 2, "choice": 0, "answer": "4" * 499 + "…"},
    ]
    assert summary(answered())["answers"] == []


def test_the_record_of_an_experiment_has_the_arms_that_would_have_acted() -> None:
    context = answered()
    detector = TriggerDetector(context.compiled, {1: frozenset({0}), 2: frozenset({9})}, always=1)
    enrolled: Any = SimpleNamespace(
        live=SimpleNamespace(stored=SimpleNamespace(name="trial")), arm=SimpleNamespace(name="calm"), detector=detector
    )
    context.enrolment = enrolled
    recorded = experiment_record(context)
    assert recorded["prompt_tokens"] == 7
    assert recorded["watched"] == 0b111
    assert recorded["triggered"] == 0b011
    figures = summary(context)
    assert recorded["effect"] == 0.5, "of both actions: 0.25 + 0.125 and 0.125"
    assert (figures["experiment"], figures["arm"]) == ("trial", "calm")
    assert {name: recorded[name] for name in SUMMARY_COLUMNS} == {name: figures[name] for name in SUMMARY_COLUMNS}


def test_a_finished_request_is_added_to_the_metrics() -> None:
    label = "test_summary"

    def value(name: str, **labels: str) -> float:
        return REGISTRY.get_sample_value(name, {"model_name": "m", "policy": label, **labels}) or 0.0

    count_in_metrics(replace(answered(label=label), model_name="m"))
    assert value("forkpoint_tokens_total", role="planning") == 2
    assert value("forkpoint_tokens_total", role="execution") == 2
    assert value("forkpoint_connectors_total", family="reflection") == 1
    assert value("forkpoint_connectors_total", family="conclusion") == 1
    assert value("forkpoint_reasoning_tokens_sum") == 2
    assert value("forkpoint_interventions_total", action="suppress", family="reflection") == 2
    assert value("forkpoint_interventions_total", action="temperature", family="") == 2


def test_only_the_first_choice_span_has_all_figures() -> None:
    context, released = answered(), dict[str, dict[str, Any]]()
    second = Trace(2, 1, ended=True)
    context.traces.append(second)
    context.traces_by_engine_id = {"first": context.traces[0], "second": second}
    context.response_id, context.finish_reasons = "cmpl-1", ["stop", "length"]
    spans: Any = SimpleNamespace(release=released.__setitem__)
    release_spans(context, spans)
    first = released["first"]
    assert first[gen_ai_attributes.GEN_AI_RESPONSE_FINISH_REASONS] == ("stop", "length")
    assert first[gen_ai_attributes.GEN_AI_USAGE_OUTPUT_TOKENS] == 4
    assert first["forkpoint.forks"] == 2
    assert (first["forkpoint.choice"], released["second"]["forkpoint.choice"]) == (0, 1)
    assert released["second"]["forkpoint.policy"] == "it"
    assert released["second"][gen_ai_attributes.GEN_AI_RESPONSE_ID] == "cmpl-1"
    assert "forkpoint.forks" not in released["second"]


def test_values_are_observed_all_at_once_as_one_by_one() -> None:
    """It writes to prometheus_client's own counters, which has no method for it."""
    values = np.array([0.0, 0.001, 0.672, 0.6721, 3.5, 50.0, 0.2], np.float32)
    pages = []
    for at_once in (True, False):
        registry = CollectorRegistry()
        histogram = Histogram("nats", "", ["role"], buckets=(0.001, 0.2, 0.672, 3.5), registry=registry).labels("x")
        if at_once:
            metrics.observe_all(histogram, values)
            metrics.observe_all(histogram, values[:0])
        else:
            for value in values.tolist():
                histogram.observe(value)
        pages.append([line for line in generate_latest(registry).decode().splitlines() if "_created" not in line])
    assert pages[0] == pages[1]
    assert 'nats_count{role="x"} 7.0' in pages[0]
