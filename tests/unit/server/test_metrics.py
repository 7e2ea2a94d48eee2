"""How the metrics are declared, and that those of several processes add up as vLLM's own do."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from prometheus_client import Counter, Gauge, Histogram, Summary
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.openmetrics.exposition import generate_latest

from forkpoint_policies.worker.record_sums import ENTROPY_BUCKETS_NATS
from forkpoint_server import metrics
from forkpoint_server.engine.engine import _count_finished

ALL = {name: metric for name, metric in vars(metrics).items() if isinstance(metric, MetricWrapperBase)}

MOVE_ALL = """
import sys
from forkpoint_server import metrics
from forkpoint_server.engine.engine import _count_finished
from prometheus_client import Counter, Gauge
from prometheus_client.metrics import MetricWrapperBase
for metric in [one for one in vars(metrics).values() if isinstance(one, MetricWrapperBase)]:
    one = metric.labels(*["x"] * len(metric._labelnames)) if metric._labelnames else metric
    if isinstance(metric, Counter):
        one.inc(2)
    elif isinstance(metric, Gauge):
        one.set(float(sys.argv[1]))
    else:
        one.observe(0.5)
print("moved", flush=True)
sys.stdin.read()  # gauges count as long as their process lives
"""

GATHER = """
import json
from vllm.v1.metrics.prometheus import get_prometheus_registry
print(json.dumps({
    sample.name: sample.value
    for family in get_prometheus_registry().collect() for sample in family.samples
    if set(sample.labels.values()) <= {"x"} or sample.labels.get("le") == "+Inf"
}))
"""
"""What vLLM's /metrics shows: of all processes that write to PROMETHEUS_MULTIPROC_DIR."""


@pytest.mark.slow
def test_metrics_of_several_processes_add_up(tmp_path: Path) -> None:
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", MOVE_ALL, value],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for value in ("0.25", "1")
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "moved\n"
    gathered = subprocess.run(
        [sys.executable, "-c", GATHER], env=environment, capture_output=True, text=True, check=True
    )
    for process in processes:
        process.communicate()
    found = json.loads(gathered.stdout.splitlines()[-1])
    gauges = {
        metrics.RECORDS_WAITING: 1.25,
        metrics.SAMPLE_RATIO: 0.25,
        metrics.BUILD: 1.0,
        metrics.RUNNING: 1.25,
        metrics.SERVERS: 1.0,
    }
    for metric in ALL.values():
        name = next(iter(metric.describe())).name
        if isinstance(metric, Counter):
            assert found[f"{name}_total"] == 4, name
        elif metric is metrics.ESTIMATE:
            assert found[name] in (0.25, 1.0), "of the process that has set it last"
        elif isinstance(metric, Gauge):
            assert found[name] == gauges[metric], name
        else:
            assert (found[f"{name}_count"], found[f"{name}_sum"]) == (2, 1.0), name


REMOVE = """
import sys
from prometheus_client import generate_latest
from vllm.v1.metrics.prometheus import get_prometheus_registry
from forkpoint_server import metrics
metrics.SAMPLE_RATIO.labels("x", "gone").set(0.5)
metrics.ASSIGNED.labels("x", "gone", "a").inc(3)
metrics.remove_series(set(), {}, set())
sys.stdout.write(generate_latest(get_prometheus_registry()).decode())
"""


@pytest.mark.slow
def test_what_one_of_several_processes_removes_is_hidden(tmp_path: Path) -> None:
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path), "PYTHONWARNINGS": "error::UserWarning"}
    shown = subprocess.run([sys.executable, "-c", REMOVE], env=environment, capture_output=True, text=True, check=True)
    lines = shown.stdout.splitlines()
    assert 'forkpoint_experiment_sample_ratio_p_value{experiment="gone",model_name="x"} NaN' in lines
    assert 'forkpoint_experiment_requests_total{arm="a",experiment="gone",model_name="x"} 3.0' in lines


def test_metric_names_follow_the_conventions() -> None:
    for metric in ALL.values():
        family = next(iter(metric.describe()))
        assert family.name.startswith("forkpoint_")
        assert family.documentation.endswith(".")
        assert set(metric._labelnames) <= {
            "policy", "arm", "finish_reason", "role", "action", "family", "outcome", "experiment", "metric", "reason",
            "version", "vllm", "model_name", "of", "bound", "kind", "readout",
            "question", "answer",
        }, family.name  # fmt: skip
        assert "model_name" in metric._labelnames, family.name
    assert {type(metric) for metric in ALL.values()} == {Counter, Gauge, Histogram, Summary}


def test_the_buckets_fit_entropies() -> None:
    buckets = ENTROPY_BUCKETS_NATS
    assert (buckets[0], buckets[-1]) == (0.001, 10.0)
    assert list(buckets) == sorted(buckets)
    assert max(above / below for below, above in itertools.pairwise(buckets)) < 3.5


@pytest.mark.parametrize("metric", [metrics.ENTROPY, metrics.TOKENS], ids=["histogram", "counter"])
def test_no_exemplars_without_spans(metric: Histogram | Counter) -> None:
    """Request ids would be on a page that no key guards."""
    child = metric.labels("other", "none", "planning")
    child.observe(1.0) if isinstance(child, Histogram) else child.inc()
    assert b"# {" not in generate_latest(metric)  # type: ignore[no-untyped-call]


def test_counters_are_exported_as_zero_before_the_first_event() -> None:
    """Prometheus misses the first increase of a series that starts with it."""
    metrics.use_model("served")
    try:
        assert metrics.served_model() == "served"
        samples = [sample for family in metrics.RECORDS_DROPPED.collect() for sample in family.samples]
        reasons = {sample.labels["reason"] for sample in samples if sample.labels["model_name"] == "served"}
        assert reasons == {"full", "duplicate", "refused", "stopped"}
        samples = [sample for family in metrics.CHANGES.collect() for sample in family.samples]
        kinds = {sample.labels["kind"] for sample in samples if sample.labels["model_name"] == "served"}
        assert kinds == {"policy", "experiment", "calibration"}
    finally:
        metrics.use_model("")


def test_the_buckets_reach_long_answers_and_can_be_replaced() -> None:
    assert metrics.LENGTH_BUCKETS_TOKENS[-1] == 131_072
    assert metrics.REQUEST_BUCKETS_SECONDS[-1] == 3600
    histogram = Histogram("test_buckets", "A test.", ["policy"], registry=None)
    metrics.use_buckets(histogram, (10.0, 100.0))
    histogram.labels("x").observe(50)
    (family,) = histogram.collect()
    buckets = {sample.labels["le"]: sample.value for sample in family.samples if sample.name.endswith("_bucket")}
    assert buckets == {"10.0": 0, "100.0": 1, "+Inf": 1}
    with pytest.raises(ValueError, match="sorted"):
        metrics.use_buckets(histogram, (100.0, 10.0))


def test_series_of_what_is_gone_are_removed() -> None:
    for policy, arm in (
        ("kept", ""),
        ("kept (shadow)", "here/a"),
        ("gone", ""),
        ("none", "over/a"),
        ("none", "here/old"),
    ):
        metrics.REQUESTS.labels("m", policy, arm, "stop").inc()
    for policy in ("kept", "gone (shadow)"):
        metrics.ENTROPY.labels("m", policy, "planning").observe(1.0)
    for readout in ("kept", "gone"):
        metrics.READOUT.labels("m", "kept", readout).observe(0.5)
    for experiment, arm in (("here", "a"), ("here", "old"), ("over", "a")):
        metrics.ASSIGNED.labels("m", experiment, arm).inc()
        metrics.INELIGIBLE.labels("m", experiment, "unit").inc()
        metrics.OUTCOME.labels("m", experiment, arm, "x").observe(1)
    metrics.remove_series({"kept", "none"}, {"here": ["a"]}, {"kept"})
    assert left(metrics.REQUESTS) == {("m", "kept", "", "stop"), ("m", "kept (shadow)", "here/a", "stop")}
    assert left(metrics.ENTROPY) == {("m", "kept", "planning")}
    assert left(metrics.READOUT) == {("m", "kept", "kept")}
    assert left(metrics.ASSIGNED) == {("m", "here", "a")}
    assert left(metrics.INELIGIBLE) == {("m", "here", "unit")}
    assert left(metrics.OUTCOME) == {("m", "here", "a", "x")}
    assert metrics.BUILD not in {metric for metric in metrics.ALL if "policy" in metric._labelnames}


def left(metric: MetricWrapperBase) -> set[tuple[str, ...]]:
    """The label values of a metric's series of the model `m`."""
    (family,) = metric.collect()
    names = metric._labelnames
    found = {tuple(sample.labels[name] for name in names) for sample in family.samples}
    return {values for values in found if values[0] == "m"}


def test_requests_to_an_adapter_have_its_name() -> None:
    """Also those without a policy, of which only vLLM's LoRARequest says what they run on."""
    for adapter, expected in ((None, ""), (SimpleNamespace(lora_name="adapter"), "adapter")):
        counter = metrics.REQUESTS.labels(expected, "none", "", "test_metrics")
        before = counter._value.get()
        _count_finished(None, adapter, "test_metrics")
        assert counter._value.get() == before + 1
