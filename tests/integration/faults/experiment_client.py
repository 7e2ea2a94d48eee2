"""Requests of an experiment and their outcomes, of which none that was acknowledged may be lost."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.processes.forkpoint_server import Server

EXPERIMENT: dict[str, Any] = {
    "name": "kept",
    "unit": "user",
    "arms": [{"name": "plain", "weight": 0.5}, {"name": "calm", "policy": "nowait", "weight": 0.5}],
}
MESSAGES = [{"role": "user", "content": "Use 3, 7, 2 to make 17."}]


@dataclass
class Experiment:
    """A running experiment of a server: the requests that it answered, and those whose outcomes it acknowledged."""

    server: Server
    answered: list[str] = field(default_factory=list)
    acknowledged: list[str] = field(default_factory=list)

    def start(self) -> None:
        httpx.post(f"{self.server.api}/experiments", json=EXPERIMENT, timeout=60).raise_for_status()

    def generate(self, **more: Any) -> str:
        """One request, by a user of its own; the id of its response."""
        body = {"model": "countdown", "messages": MESSAGES, "max_tokens": 20, "user": f"u{len(self.answered)}", **more}
        answer = httpx.post(f"{self.server.api}/chat/completions", json=body, timeout=120).raise_for_status()
        self.answered.append(answer.json()["id"])
        return self.answered[-1]

    def post(self, request_id: str) -> int:
        """Post a request's outcome; the status."""
        outcome = {"request_id": request_id, "metrics": {"correct": 1}}
        status = httpx.post(f"{self.server.api}/experiments/kept/outcomes", json=outcome, timeout=120).status_code
        if status == 200:
            self.acknowledged.append(request_id)
        return status

    def check(self) -> None:
        """All requests are recorded, and all outcomes that were acknowledged, and no others."""
        experiment = httpx.get(f"{self.server.api}/experiments/kept", timeout=120).raise_for_status().json()
        arms = experiment["figures"]
        assert sum(arm["requests"] for arm in arms) == len(self.answered), arms
        assert sum(arm["metrics"].get("correct", {}).get("requests", 0) for arm in arms) == len(self.acknowledged), arms
