"""A data-parallel rank on each of two hosts by `--nnodes`, which counts the hosts instead of naming their ranks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import openai
import pytest

from forkpoint_policies.tasks.countdown import held_out_puzzles
from tests.integration.puzzles import BANNED, attempts
from tests.processes.forkpoint_server import Server
from tests.processes.hosts import Host
from tests.processes.nodes import serving


@pytest.fixture(scope="module")
def server(two_hosts: Sequence[Host]) -> Iterator[Server]:
    parallel = ["--data-parallel-size", "2", "--nnodes", "2", "--master-addr", two_hosts[0].address]
    with serving(two_hosts, parallel, ["--node-rank", "0"], ["--node-rank", "1"]) as started:
        yield started


def test_both_ranks_report_every_token(server: Server, own_client: openai.OpenAI) -> None:
    found = attempts(own_client, held_out_puzzles("easy", 16), "nowait", max_tokens=60)
    assert all(one.summary["complete"] for one in found)
    assert not any(BANNED.search(one.reasoning) for one in found)
    samples = server.metrics()
    generated = [value for name, value in samples.items() if name.startswith("vllm:generation_tokens_total")]
    assert len(generated) == 2
    assert min(generated) > 0
    assert samples["forkpoint_telemetry_dropped_total"] == 0
