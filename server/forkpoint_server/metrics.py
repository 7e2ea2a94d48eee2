"""Every Prometheus metric of Forkpoint. They are on vLLM's /metrics page, beside its own."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram, Summary

ENTROPY_BUCKETS_NATS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.2, 0.4, 0.672, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0)
LENGTH_BUCKETS_TOKENS = (8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768)
STEP_BUCKETS_SECONDS = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
REQUEST_BUCKETS_SECONDS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 60.0, 120.0, 300.0, 600.0)

REQUESTS = Counter("forkpoint_requests", "Finished choices.", ["policy", "arm", "finish_reason"])
REQUEST_SECONDS = Histogram(
    "forkpoint_request_seconds",
    "From a request's arrival to the end of its answer, of those that were answered.",
    ["policy"],
    buckets=REQUEST_BUCKETS_SECONDS,
)
TOKENS = Counter("forkpoint_tokens", "Generated tokens by role: planning above the fork threshold.", ["policy", "role"])
ENTROPY = Histogram(
    "forkpoint_token_entropy_nats", "Entropy of each generated token's distribution, in nats.", ["policy", "role"],
    buckets=ENTROPY_BUCKETS_NATS,
)  # fmt: skip
INTERVENTIONS = Counter(
    "forkpoint_interventions", "Rules that fired, at committed tokens.", ["policy", "action", "family"]
)
EFFECT = Counter(
    "forkpoint_intervention_effect", "Summed total variation distance of what rules did: expected changed tokens.",
    ["policy", "action"],
)  # fmt: skip
CONNECTORS = Counter("forkpoint_connectors", "Generated connector words, by family.", ["policy", "family"])
BRANCHES = Counter(
    "forkpoint_branches",
    "Branches that ended, by how: stop, length, abort, error, outvoted, unsure, exit; refused for lack of room.",
    ["policy", "outcome"],
)
SHARED = Counter("forkpoint_branch_shared_tokens", "Tokens that branches did not have to generate again.", ["policy"])
REASONING = Histogram(
    "forkpoint_reasoning_tokens", "Reasoning tokens of a finished choice.", ["policy"], buckets=LENGTH_BUCKETS_TOKENS
)
DROPPED = Counter("forkpoint_telemetry_dropped", "Records of generated tokens that never arrived.")
STEP = Histogram(
    "forkpoint_step_seconds", "The kernel's own cost per step, on the worker's host.", buckets=STEP_BUCKETS_SECONDS
)
ASSIGNED = Counter("forkpoint_experiment_requests", "Requests that were assigned to an arm.", ["experiment", "arm"])
FAILED = Counter(
    "forkpoint_experiment_errors",
    "Requests of an arm that were answered with an error, or not at all.",
    ["experiment", "arm"],
)
INELIGIBLE = Counter(
    "forkpoint_experiment_ineligible",
    "Requests that are not in an experiment: without its unit, or such that some arm's policy could not apply.",
    ["experiment", "reason"],
)
OUTCOME = Summary(
    "forkpoint_experiment_outcome", "Outcomes that were posted here and are new.", ["experiment", "arm", "metric"]
)
SAMPLE_RATIO = Gauge(
    "forkpoint_experiment_sample_ratio_p_value",
    "Of a running experiment, whether its arms have as many units as they should; below 0.01 they do not. "
    "Valid at any time.",
    ["experiment"],
    multiprocess_mode="livemin",
)
RECORDS_WAITING = Gauge(
    "forkpoint_records_waiting", "Requests of experiments that are not written yet.", multiprocess_mode="livesum"
)
RECORDS_DROPPED = Counter(
    "forkpoint_records_dropped",
    "Requests of experiments that were not recorded, by why: full, duplicate, refused, stopped.",
    ["reason"],
)
for _reason in ("full", "duplicate", "refused", "stopped"):
    RECORDS_DROPPED.labels(_reason)  # a counter that starts at 0 shows its first increase
RUNNING = Gauge(
    "forkpoint_choices_running",
    "Choices under a policy or `forks` that run, branches among them.",
    multiprocess_mode="livesum",
)
BUILD = Gauge(
    "forkpoint_build_info",
    "Always 1; the versions and the served model are in the labels.",
    ["version", "vllm", "model_name"],
    multiprocess_mode="livemax",
)
