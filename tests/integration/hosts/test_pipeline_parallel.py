"""A model whose last layers, and with them sampling and its records, are on the other host."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import httpx
import openai
import pytest

from forkpoint_policies.tasks.countdown import held_out_puzzles
from tests.integration.puzzles import BANNED, attempts
from tests.processes.forkpoint_server import Server
from tests.processes.hosts import Host
from tests.processes.nodes import serving


@pytest.fixture(scope="module")
def server(two_hosts: Sequence[Host]) -> Iterator[Server]:
    parallel = ["--pipeline-parallel-size", "2", "--nnodes", "2", "--master-addr", two_hosts[0].address]
    compiled = "--no-enforce-eager"  # without compilation vLLM's CPU build cannot pass a stage's tensors on
    with serving(two_hosts, [*parallel, compiled], ["--node-rank", "0"], ["--node-rank", "1"]) as started:
        yield started


def test_all_tokens_are_reported_from_the_other_host(server: Server, own_client: openai.OpenAI) -> None:
    found = attempts(own_client, held_out_puzzles("easy", 8), "nowait", max_tokens=60)
    assert all(one.summary["complete"] for one in found)
    assert not any(BANNED.search(one.reasoning) for one in found)
    assert server.metrics()["forkpoint_telemetry_dropped_total"] == 0
    assert f"workers on other hosts send their records to tcp://{httpx.URL(server.url).host}:" in server.log.read_text()
