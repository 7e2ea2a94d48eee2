"""Every Prometheus metric of Forkpoint. They are on vLLM's /metrics page, beside its own."""

from __future__ import annotations

import math
import os
from collections.abc import Collection, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from prometheus_client import Counter, Gauge, Histogram, Summary
from prometheus_client.metrics import MetricWrapperBase

from forkpoint_policies.worker.record_sums import ENTROPY_BUCKETS_NATS

LENGTH_BUCKETS_TOKENS = tuple(float(1 << power) for power in range(3, 18))  # up to 131,072
STEP_BUCKETS_SECONDS = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
REQUEST_BUCKETS_SECONDS = (
    0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 1800.0, 3600.0,
)  # fmt: skip

MULTIPROCESS = "PROMETHEUS_MULTIPROC_DIR"
"""The environment variable that names the folder of the metrics of several processes."""

MODEL = "model_name"
"""vLLM's label of the served model. Metrics of requests have the adapter's name where a request runs on one."""

REQUESTS = Counter("forkpoint_requests", "Finished choices.", [MODEL, "policy", "arm", "finish_reason"])
REQUEST_SECONDS = Histogram(
    "forkpoint_request_seconds",
    "From a request's arrival to the end of its answer, of those that were answered.",
    [MODEL, "policy"],
    buckets=REQUEST_BUCKETS_SECONDS,
)
TOKENS = Counter(
    "forkpoint_tokens", "Generated tokens by role: planning above the fork threshold.", [MODEL, "policy", "role"]
)
ENTROPY = Histogram(
    "forkpoint_token_entropy_nats",
    "Entropy of each generated token's distribution, in nats.",
    [MODEL, "policy", "role"],
    buckets=ENTROPY_BUCKETS_NATS,
)
EFFECTIVE_RANK = Histogram(
    "forkpoint_effective_rank",
    "Effective rank of the hidden states, at tokens generated under policies with a condition on it.",
    [MODEL, "policy"],
    buckets=(2, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 256),
)
READOUT = Histogram(
    "forkpoint_readout",
    "Value of a readout of the hidden states, at tokens generated under policies with a condition on it.",
    [MODEL, "policy", "readout"],
    buckets=(-10, -5, -2, -1, 0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1, 2, 5, 10),
)
INTERVENTIONS = Counter(
    "forkpoint_interventions", "Rules that fired, at committed tokens.", [MODEL, "policy", "action", "family"]
)
EFFECT = Counter(
    "forkpoint_intervention_effect",
    "Summed total variation distance of what rules did: expected changed tokens.",
    [MODEL, "policy", "action"],
)
CONNECTORS = Counter("forkpoint_connectors", "Generated connector words, by family.", [MODEL, "policy", "family"])
BRANCHES = Counter(
    "forkpoint_branches",
    "Branches that ended, by how: stop, length, abort, error, outvoted, unsure, exit; refused for lack of room.",
    [MODEL, "policy", "outcome"],
)
SHARED = Counter(
    "forkpoint_branch_shared_tokens", "Tokens that branches did not have to generate again.", [MODEL, "policy"]
)
REASONING = Histogram(
    "forkpoint_reasoning_tokens",
    "Reasoning tokens of a finished choice.",
    [MODEL, "policy"],
    buckets=LENGTH_BUCKETS_TOKENS,
)
DROPPED = Counter("forkpoint_telemetry_dropped", "Records of generated tokens that never arrived.", [MODEL])
STEP = Histogram(
    "forkpoint_step_seconds",
    "The kernel's own cost per step, on the worker's host.",
    [MODEL],
    buckets=STEP_BUCKETS_SECONDS,
)
ASSIGNED = Counter(
    "forkpoint_experiment_requests", "Requests that were assigned to an arm.", [MODEL, "experiment", "arm"]
)
FAILED = Counter(
    "forkpoint_experiment_errors",
    "Requests of an arm that ended in a server error, or without an answer.",
    [MODEL, "experiment", "arm"],
)
INELIGIBLE = Counter(
    "forkpoint_experiment_ineligible",
    "Requests that are not in an experiment: without its unit, or such that some arm's policy could not apply.",
    [MODEL, "experiment", "reason"],
)
OUTCOME = Summary(
    "forkpoint_experiment_outcome",
    "Outcomes that were posted here and are new.",
    [MODEL, "experiment", "arm", "metric"],
)
SAMPLE_RATIO = Gauge(
    "forkpoint_experiment_sample_ratio_p_value",
    "Of a running experiment, whether its arms have as many units as they should; below 0.01 they do not. "
    "Valid at any time.",
    [MODEL, "experiment"],
    multiprocess_mode="livemin",
)
ESTIMATE = Gauge(
    "forkpoint_experiment_estimate",
    "Of a running experiment: an arm's mean of a metric, or its difference from the control arm's (`of`), and the ends "
    "of the interval (`bound`: estimate, low, high), which is valid at any time. NaN while nothing is certain.",
    [MODEL, "experiment", "arm", "metric", "of", "bound"],
    multiprocess_mode="livemostrecent",
)
RECORDS_WAITING = Gauge(
    "forkpoint_records_waiting",
    "Requests of experiments that are not written yet.",
    [MODEL],
    multiprocess_mode="livesum",
)
RECORDS_DROPPED = Counter(
    "forkpoint_records_dropped",
    "Requests of experiments that were not recorded, by why: full, duplicate, refused, stopped.",
    [MODEL, "reason"],
)
CHANGES = Counter(
    "forkpoint_changes",
    "Changes that were requested here: of policies, of experiments and of the calibration, by what was done.",
    [MODEL, "kind", "action"],
)
RUNNING = Gauge(
    "forkpoint_choices_running",
    "Choices under a policy or `forks` that run, branches among them.",
    [MODEL],
    multiprocess_mode="livesum",
)
SERVERS = Gauge(
    "forkpoint_servers",
    "Servers of the database that live, as this one knows them; 1 for one on its own.",
    [MODEL],
    multiprocess_mode="livemax",
)
ASKED = Counter(
    "forkpoint_server_questions",
    "What this server asked others, by question (trace, tokens, position, rows) and answer (found, not_found, none: "
    "the other did not answer).",
    [MODEL, "question", "answer"],
)
BUILD = Gauge(
    "forkpoint_build_info",
    "Always 1; the versions and the served model are in the labels.",
    ["version", "vllm", MODEL],
    multiprocess_mode="livemax",
)

ALL = tuple(metric for metric in list(globals().values()) if isinstance(metric, MetricWrapperBase))

CHANGE_ACTIONS = {
    "policy": ("created", "changed", "deleted"),
    "experiment": ("created", "changed", "started", "paused", "stopped", "deleted"),
    "calibration": ("changed",),
}

SHADOW = " (shadow)"
"""Appended to the label of a policy that does not act."""

_SERVER = {MODEL: ""}


def use_model(name: str) -> None:
    """Set the name under which this process serves its model: the label of what does not belong to one request."""
    _SERVER[MODEL] = name
    for reason in ("full", "duplicate", "refused", "stopped"):
        RECORDS_DROPPED.labels(name, reason)  # a counter that starts at 0 shows its first increase
    for kind, actions in CHANGE_ACTIONS.items():
        for action in actions:
            CHANGES.labels(name, kind, action)
    for metric in (RECORDS_WAITING, RUNNING, DROPPED, STEP):
        metric.labels(name)
    for question in ("trace", "tokens", "position", "rows"):
        for answer in ("found", "not_found", "none"):
            ASKED.labels(name, question, answer)
    SERVERS.labels(name).set(1)


def served_model() -> str:
    """The name that `use_model` has set; empty before."""
    return _SERVER[MODEL]


def count_change(kind: str, action: str) -> None:
    """Count a change that is stored; CHANGE_ACTIONS has the actions of each kind."""
    CHANGES.labels(_SERVER[MODEL], kind, action).inc()


def observe_all(histogram: Histogram, values: NDArray[np.floating]) -> None:
    """As `observe` for each value, in one step: the entropies of long answers would take the event
    loop a second."""
    counts = np.bincount(np.searchsorted(histogram._upper_bounds, values), minlength=len(histogram._upper_bounds))
    # NaN would be behind the last
    observe_counts(histogram, counts[: len(histogram._upper_bounds)], float(values.sum(dtype=np.float64)))


def observe_counts(histogram: Histogram, counts: NDArray[np.integer], total: float) -> None:
    """As `observe` for so many values in each bucket, [buckets], which add up to `total`."""
    for bucket, count in zip(histogram._buckets, counts.tolist(), strict=True):
        if count:
            bucket.inc(count)
    histogram._sum.inc(total)


def use_buckets(histogram: Histogram, upper_bounds: Sequence[float]) -> None:
    """Replace the buckets of a histogram that has observed nothing. Raises ValueError for bounds that do not rise."""
    histogram._prepare_buckets(upper_bounds)
    histogram._kwargs["buckets"] = upper_bounds


def remove_series(policies: Collection[str], arms: Mapping[str, Collection[str]], readouts: Collection[str]) -> None:
    """Remove the series of all other policies, experiments and readouts. `arms`: those of each experiment shown."""
    labels = {f"{experiment}/{arm}" for experiment, names in arms.items() for arm in names} | {""}
    for metric in ALL:
        names = metric._labelnames
        for values in list(metric._metrics):
            series = dict(zip(names, values, strict=True))
            of_experiment = "experiment" in series
            if (
                ("policy" in series and series["policy"].removesuffix(SHADOW) not in policies)
                or ("readout" in series and series["readout"] not in readouts)
                or (of_experiment and series["experiment"] not in arms)
                or (of_experiment and "arm" in series and series["arm"] not in arms[series["experiment"]])
                or (not of_experiment and "arm" in series and series["arm"] not in labels)
            ):
                remove(metric, *values)


def remove(metric: MetricWrapperBase, *labels: str) -> None:
    """Remove one series.

    With several processes prometheus_client cannot remove what is in its files, which are emptied at a restart: there
    a gauge becomes NaN, and what counts stays.
    """
    if MULTIPROCESS not in os.environ:
        metric.remove(*labels)
    elif isinstance(metric, Gauge):
        metric.labels(*labels).set(math.nan)
