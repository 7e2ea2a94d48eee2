"""Signals of hidden states through a server: in the response, the trace, the metrics, and in branches."""

from __future__ import annotations

from typing import Any

import openai
import pytest

from tests.integration.puzzles import MESSAGES, summary_of
from tests.processes.forkpoint_server import Server

WATCH: dict[str, Any] = {"use": "rank-watch", "with": {"window": 16, "stride": 4}}
NAMES = {"effective_rank", "effective_rank_velocity", "effective_rank_acceleration"}


def test_the_effective_rank_is_reported(server: Server, client: openai.OpenAI) -> None:
    before = server.metrics()
    response = client.chat.completions.create(
        model="countdown", messages=MESSAGES, temperature=1, seed=3, extra_body={"policy": WATCH}
    )
    trace = client.get(f"/forks/{response.id}", cast_to=dict)
    (choice,) = trace["choices"]
    ranks, velocities = choice["hidden"]["effective_rank"], choice["hidden"]["effective_rank_velocity"]
    assert choice["hidden"].keys() == NAMES
    assert trace["hidden_bounds"] == {"effective_rank_velocity": {"above": [0.0], "below": []}}
    assert len(ranks) == len(choice["positions"]) == len(choice["token_ids"])
    assert ranks[:15] == [None] * 15
    assert all(1 < rank <= 15 for rank in ranks[15:])
    assert ranks[15:19] == [ranks[15]] * 4
    assert velocities[15:19] == [None] * 4
    assert velocities[19] == pytest.approx(ranks[19] - ranks[15], abs=1e-3)
    marked = [bool(actions) for actions in choice["actions"]]
    assert marked == [velocity is not None and velocity > 0 for velocity in velocities]
    assert any(marked)
    mean = sum(ranks[15:]) / len(ranks[15:])
    assert summary_of(response)["hidden"]["effective_rank"] == pytest.approx(mean, abs=1e-3)
    name = 'forkpoint_effective_rank_count{policy="rank-watch"}'
    counted = {
        key: value for key, value in server.metrics().items() if key.startswith("forkpoint_effective_rank_count")
    }
    assert sum(counted.values()) - before.get(name, 0.0) >= len(ranks) - 15


def test_requests_without_a_condition_on_it_have_none(client: openai.OpenAI) -> None:
    response = client.chat.completions.create(
        model="countdown", messages=MESSAGES, max_tokens=40, extra_body={"policy": "observe"}
    )
    trace = client.get(f"/forks/{response.id}", cast_to=dict)
    assert "hidden" not in trace["choices"][0]
    assert "hidden_bounds" not in trace
    assert "hidden" not in summary_of(response)
