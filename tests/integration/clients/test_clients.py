"""Third-party clients and suites call the server as their users do, by each way in which they can name a policy."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.processes.forkpoint_server import Server

ROOT = Path(__file__).parents[3]
PYTHON = ROOT / ".venv-clients" / "bin" / "python"
MODEL = "countdown"
POLICY_BY_WAY = {"alias": "nowait", "headers": "thinking-ban", "body": "dual-temperature"}
POLICY_IN_STREAM = "switch-penalty"


@dataclass(frozen=True)
class Client:
    """A program, the ways in which its client can name a policy, and whether it keeps the `forkpoint` object."""

    program: str
    ways: tuple[str, ...] = ("alias", "headers", "body")
    has_object: bool = False
    streams: bool = True


CLIENTS = (
    Client("openai_sdk", has_object=True),
    Client("anthropic_sdk", has_object=True),
    Client("langchain_chat"),
    Client("litellm_completion", has_object=True),
    Client("llama_index_llm", has_object=True),
    Client("dspy_lm", streams=False),
    Client("pydantic_ai_agent"),
    Client("openai_agents"),
    Client("smolagents_model", has_object=True),
    Client("instructor_model", has_object=True, streams=False),
    Client("inspect_task", streams=False),
    Client("lm_eval_task", ways=("alias", "body"), streams=False),
)


@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.program)
def test_a_client_reaches_policies_and_reads_streams(server: Server, client: Client) -> None:
    """Each policy that the client named is counted by the server; a client that fails prints why."""
    before = _requests_by_policy(server)
    report = _run(server, client.program)
    after = _requests_by_policy(server)

    reached = {policy for policy in after if after[policy] > before.get(policy, 0)}
    expected = {POLICY_BY_WAY[way] for way in client.ways} | ({POLICY_IN_STREAM} if client.streams else set())
    assert report["ways"] == list(client.ways)
    assert expected <= reached
    assert report["object"] == client.has_object
    if client.streams:
        assert isinstance(report["stream"], str)


def _run(server: Server, program: str) -> dict[str, Any]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {
        "BASE_URL": server.api, "MODEL": MODEL, "OPENAI_API_KEY": "none", "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "HF_HUB_OFFLINE": "1",
    }  # fmt: skip
    done = subprocess.run(
        [PYTHON, "-W", "ignore", "-m", f"tests.integration.clients.programs.{program}"],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def _requests_by_policy(server: Server) -> dict[str, float]:
    """How many requests were answered under each policy."""
    prefix = "forkpoint_request_seconds_count{"
    found: dict[str, float] = {}
    for name, value in server.metrics().items():
        if name.startswith(prefix):
            policy = name.partition('policy="')[2].partition('"')[0]
            found[policy] = found.get(policy, 0) + value
    return found
