"""How the metrics are declared, and that those of several processes add up as vLLM's own do."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client import Counter, Gauge, Histogram, Summary
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.openmetrics.exposition import generate_latest

from forkpoint_server import metrics

ALL = {name: metric for name, metric in vars(metrics).items() if isinstance(metric, MetricWrapperBase)}

MOVE_ALL = """
import sys
from forkpoint_server import metrics
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
    gauges = {metrics.RECORDS_WAITING: 1.25, metrics.SAMPLE_RATIO: 0.25, metrics.BUILD: 1.0, metrics.RUNNING: 1.25}
    for metric in ALL.values():
        name = next(iter(metric.describe())).name
        if isinstance(metric, Counter):
            assert found[f"{name}_total"] == 4, name
        elif isinstance(metric, Gauge):
            assert found[name] == gauges[metric], name
        else:
            assert (found[f"{name}_count"], found[f"{name}_sum"]) == (2, 1.0), name


def test_metric_names_follow_the_conventions() -> None:
    for metric in ALL.values():
        family = next(iter(metric.describe()))
        assert family.name.startswith("forkpoint_")
        assert family.documentation.endswith(".")
        assert set(metric._labelnames) <= {
            "policy", "arm", "finish_reason", "role", "action", "family", "outcome", "experiment", "metric", "reason",
            "version", "vllm", "model_name",
        }, family.name  # fmt: skip
    assert {type(metric) for metric in ALL.values()} == {Counter, Gauge, Histogram, Summary}


def test_the_buckets_fit_entropies() -> None:
    buckets = metrics.ENTROPY_BUCKETS_NATS
    assert (buckets[0], buckets[-1]) == (0.001, 10.0)
    assert list(buckets) == sorted(buckets)
    assert max(above / below for below, above in itertools.pairwise(buckets)) < 3.5


@pytest.mark.parametrize("metric", [metrics.ENTROPY, metrics.TOKENS], ids=["histogram", "counter"])
def test_no_exemplars(metric: Histogram | Counter) -> None:
    """They would put request ids on the page."""
    child = metric.labels("none", "planning")
    child.observe(1.0) if isinstance(child, Histogram) else child.inc()
    assert b"# {" not in generate_latest(metric)  # type: ignore[no-untyped-call]


def test_counters_are_exported_as_zero_before_the_first_event() -> None:
    """Prometheus misses the first increase of a series that starts with it."""
    reasons = {sample.labels["reason"] for family in metrics.RECORDS_DROPPED.collect() for sample in family.samples}
    assert reasons == {"full", "duplicate", "refused", "stopped"}
