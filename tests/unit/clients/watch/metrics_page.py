"""A /metrics page with some of the server's metrics."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Summary, generate_latest


class MetricsPage:
    """Some of the server's metrics, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        Gauge("forkpoint_build_info", "b", ["version", "vllm"], registry=self.registry).labels("0.1.0", "0.32.0").set(1)
        self.requests = Counter("forkpoint_requests", "r", ["policy", "arm", "finish_reason"], registry=self.registry)
        self.tokens = Counter("forkpoint_tokens", "t", ["policy", "role"], registry=self.registry)
        self.entropy = Histogram("forkpoint_token_entropy_nats", "e", ["policy", "role"], registry=self.registry)
        self.branches = Counter("forkpoint_branches", "b", ["policy", "outcome"], registry=self.registry)
        self.assigned = Counter("forkpoint_experiment_requests", "a", ["experiment", "arm"], registry=self.registry)
        self.outcomes = Summary(
            "forkpoint_experiment_outcome", "o", ["experiment", "arm", "metric"], registry=self.registry
        )

    def text(self) -> str:
        return generate_latest(self.registry).decode()
