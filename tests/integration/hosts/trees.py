"""A tree on a model of several hosts: its branches, and traces that have every token."""

from __future__ import annotations

import httpx
import openai

from forkpoint_policies.tasks.countdown import held_out_puzzles
from tests.processes.forkpoint_server import Server

POLICY = {"rules": [{"when": {"entropy_above": 0.3}, "do": {"branch": {}}}]}


def check_tree(server: Server, client: openai.OpenAI, seed: int) -> None:
    """Ask for four answers that branch, and check that all are there, completely."""
    response = client.chat.completions.create(
        model="countdown", messages=[{"role": "user", "content": held_out_puzzles("hard", 1)[0].prompt}], n=4,
        seed=seed, max_tokens=60, extra_body={"policy": POLICY},
    )  # fmt: skip
    assert len(response.choices) == 4
    summary = (response.model_extra or {})["forkpoint"]
    assert summary["branches"] == 3
    assert summary["complete"]
    trace = httpx.get(f"{server.api}/forks/{response.id}").raise_for_status().json()
    assert all(len(choice["positions"]) == len(choice["token_ids"]) for choice in trace["choices"])
