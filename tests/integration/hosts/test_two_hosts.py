"""One model on two hosts, a data-parallel rank on each: live policies, branching, complete traces, a cut network.

Run by `make test-hosts`, as root.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import httpx
import openai
import pytest

from forkpoint_policies.tasks.countdown import held_out_puzzles
from forkpoint_server.cli import DEMO_ARGUMENTS
from tests.integration.polling import until
from tests.integration.puzzles import BANNED, attempt, attempts
from tests.processes.forkpoint_server import COMMAND, START_SECONDS, Server
from tests.processes.hosts import Host, hosts, missing

pytestmark = [
    pytest.mark.skipif(missing() is not None, reason=f"two hosts: {missing()}"),
    pytest.mark.xdist_group("hosts"),
]

PORT = 8189
CPU = {"VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": "1"}
CUT_SECONDS = 15.0


def model_arguments(first: Host) -> list[str]:
    at = DEMO_ARGUMENTS.index("--host")
    parallel = ["--data-parallel-size", "2", "--data-parallel-size-local", "1"]
    where = ["--data-parallel-address", first.address, "--data-parallel-rpc-port", "13345"]
    demo = [*DEMO_ARGUMENTS[:at], *DEMO_ARGUMENTS[at + 2 :]]
    return [*demo, "--kv-cache-memory-bytes", "256M", *parallel, *where]


@pytest.fixture(scope="module")
def two_hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sequence[Host]]:
    with hosts(tmp_path_factory.mktemp("hosts")) as made:
        yield made


@pytest.fixture(scope="module")
def server(two_hosts: Sequence[Host]) -> Iterator[Server]:
    """A server on the first host, and a headless node on the second."""
    first, second = two_hosts
    started: list[subprocess.Popen[bytes]] = []

    def start(host: Host, *arguments: str) -> Path:
        log = host.folder.parent / f"{host.folder.name}.log"
        command = host.command(str(COMMAND), "serve", *model_arguments(first), *arguments)
        environment = {**os.environ, **CPU, **host.environment()}
        with log.open("wb") as output:
            started.append(
                subprocess.Popen(
                    command, stdout=output, stderr=subprocess.STDOUT, env=environment, start_new_session=True
                )
            )
        return log

    log = start(first, "--host", first.address, "--port", str(PORT))
    start(second, "--data-parallel-start-rank", "1", "--headless")
    server = Server(f"http://{first.address}:{PORT}", log, started[0])
    try:
        wait_until_healthy(server, started)
        yield server
    finally:
        for process in started:
            process.send_signal(signal.SIGTERM)
        for process in started:
            with suppress(subprocess.TimeoutExpired):
                process.wait(60)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def wait_until_healthy(server: Server, started: Sequence[subprocess.Popen[bytes]]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if any(process.poll() is not None for process in started):
            break
        with suppress(httpx.TransportError):
            if httpx.get(f"{server.url}/health", timeout=2).status_code == 200:
                return
        time.sleep(0.5)
    logs = [path.read_text()[-3000:] for path in sorted(server.log.parent.glob("*.log"))]
    raise RuntimeError("not healthy:\n" + "\n---\n".join(logs))


@pytest.fixture(scope="module")
def own_client(server: Server) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=server.api, api_key="none", max_retries=0, timeout=300) as client:
        yield client


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
    policy = {"rules": [{"when": {"entropy_above": 0.3}, "do": {"branch": {}}}]}
    ranks = set()
    for seed in range(2):
        before = tokens_by_rank(server)
        response = own_client.chat.completions.create(
            model="countdown", messages=[{"role": "user", "content": held_out_puzzles("hard", 1)[0].prompt}], n=4,
            seed=seed, max_tokens=60, extra_body={"policy": policy},
        )  # fmt: skip
        assert len(response.choices) == 4
        summary = (response.model_extra or {})["forkpoint"]
        assert summary["branches"] == 3
        assert summary["complete"]
        after = tokens_by_rank(server)
        (rank,) = [name for name in after if after[name] > before.get(name, 0)]
        ranks.add(rank)
        trace = httpx.get(f"{server.api}/forks/{response.id}").raise_for_status().json()
        assert all(len(choice["positions"]) == len(choice["token_ids"]) for choice in trace["choices"])
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
