"""A data-parallel rank on each of two hosts: live policies, branching, complete traces, a cut network."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

import httpx
import openai
import pytest

from forkpoint_policies.tasks.countdown import held_out_puzzles
from tests.integration.hosts.trees import check_tree
from tests.integration.polling import until
from tests.integration.puzzles import BANNED, attempt, attempts
from tests.processes.forkpoint_server import Server
from tests.processes.hosts import Host
from tests.processes.nodes import serving

CUT_SECONDS = 15.0


@pytest.fixture(scope="module")
def server(two_hosts: Sequence[Host]) -> Iterator[Server]:
    address = two_hosts[0].address
    parallel = ["--data-parallel-size", "2", "--data-parallel-size-local", "1", "--data-parallel-address", address]
    second = ["--data-parallel-start-rank", "1"]
    with serving(two_hosts, [*parallel, "--data-parallel-rpc-port", "13345"], [], second) as started:
        yield started


def tokens_by_rank(server: Server) -> dict[str, float]:
    samples = server.metrics()
    return {name: value for name, value in samples.items() if name.startswith("vllm:generation_tokens_total")}


def test_policies_act_on_both_hosts_and_every_token_is_reported(server: Server, own_client: openai.OpenAI) -> None:
    before = tokens_by_rank(server)
    found = attempts(own_client, held_out_puzzles("easy", 16), "nowait", max_tokens=100)
    assert all(one.summary["complete"] for one in found)
    assert not any(BANNED.search(one.reasoning) for one in found)
    after = tokens_by_rank(server)
    assert len([name for name in after if after[name] > before.get(name, 0)]) == 2, "both ranks have generated"
    assert server.metrics()["forkpoint_telemetry_dropped_total"] == 0
    assert "workers on other hosts send their records to tcp://10.77.0.1:" in server.log.read_text()


def test_trees_branch_on_each_host_and_stay_there(server: Server, own_client: openai.OpenAI) -> None:
    ranks = set()
    for seed in range(2):
        before = tokens_by_rank(server)
        check_tree(server, own_client, seed)
        after = tokens_by_rank(server)
        (rank,) = [name for name in after if after[name] > before.get(name, 0)]
        ranks.add(rank)
    assert len(ranks) == 2, "trees take turns among the ranks"


def test_a_host_that_is_cut_off_and_comes_back(
    server: Server, own_client: openai.OpenAI, two_hosts: Sequence[Host]
) -> None:
    """For a while nothing arrives from the second host. Its requests wait, as in vLLM, and are complete afterwards."""
    two_hosts[1].cut_off()
    try:
        time.sleep(CUT_SECONDS)
    finally:
        two_hosts[1].connect()

    def both_answer() -> bool:
        before = tokens_by_rank(server)
        found = [attempt(own_client, held_out_puzzles("easy", 1)[0], "nowait", max_tokens=30) for _ in range(4)]
        after = tokens_by_rank(server)
        active = [name for name in after if after[name] > before.get(name, 0)]
        return len(active) == 2 and all(one.summary["complete"] for one in found)

    until(both_answer)
    assert httpx.get(f"{server.url}/health").status_code == 200
