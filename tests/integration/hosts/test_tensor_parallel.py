"""A model whose layers are split between two hosts: policies, traces; and a host that is cut off during requests."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence

import httpx
import openai
import pytest

from forkpoint_policies.tasks.countdown import held_out_puzzles
from tests.integration.hosts.trees import check_tree
from tests.integration.polling import health, until
from tests.integration.puzzles import BANNED, attempts
from tests.processes.forkpoint_server import Server
from tests.processes.hosts import Host
from tests.processes.nodes import serving

STEP_SECONDS = 90
"""After which vLLM takes a step for lost; 300 by default. The first step compiles the kernel, and the server's /health
says after a minute that the engine answers nothing."""


@pytest.fixture(scope="module")
def server(two_hosts: Sequence[Host]) -> Iterator[Server]:
    parallel = ["--tensor-parallel-size", "2", "--nnodes", "2", "--master-addr", two_hosts[0].address]
    patience = {"VLLM_EXECUTE_MODEL_TIMEOUT_SECONDS": str(STEP_SECONDS)}
    with serving(two_hosts, parallel, ["--node-rank", "0"], ["--node-rank", "1"], patience) as started:
        yield started


def test_policies_act_and_every_token_is_reported(server: Server, own_client: openai.OpenAI) -> None:
    found = attempts(own_client, held_out_puzzles("easy", 8), "nowait", max_tokens=60)
    assert all(one.summary["complete"] for one in found)
    assert not any(BANNED.search(one.reasoning) for one in found)
    assert server.metrics()["forkpoint_telemetry_dropped_total"] == 0


def test_a_tree_branches_on_both_hosts_at_once(server: Server, own_client: openai.OpenAI) -> None:
    check_tree(server, own_client, seed=0)


def test_requests_end_with_an_error_when_the_other_host_is_cut_off(server: Server, two_hosts: Sequence[Host]) -> None:
    """As in vLLM: the server waits for the step, answers 500, and ends, so that a supervisor starts it again.
    While it waits, /health is a 503."""
    bodies: dict[bool, tuple[int, str]] = {}
    streaming = threading.Event()

    def ask(stream: bool) -> None:
        message = {"role": "user", "content": held_out_puzzles("hard", 1)[0].prompt}
        body = {"model": "countdown", "messages": [message], "max_tokens": 1900, "ignore_eos": True, "stream": stream}
        with httpx.stream("POST", f"{server.api}/chat/completions", json=body, timeout=STEP_SECONDS + 60) as response:
            text = ""
            for part in response.iter_text():
                text += part
                streaming.set()
            bodies[stream] = response.status_code, text

    asking = [threading.Thread(target=ask, args=(stream,)) for stream in (True, False)]
    for thread in asking:
        thread.start()
    assert streaming.wait(60)
    two_hosts[1].cut_off()
    started = time.monotonic()
    until(lambda: health(server)[0] == 503)
    assert "the engine takes requests and answers none" in health(server)[1]
    for thread in asking:
        thread.join(STEP_SECONDS + 60)
    assert time.monotonic() - started < STEP_SECONDS + 30
    assert bodies[False][0] == 500
    assert "EngineCore encountered an issue" in bodies[False][1]
    assert bodies[True][0] == 200
    assert bodies[True][1].rstrip().endswith("data: [DONE]")
    assert "EngineCore encountered an issue" in bodies[True][1]
    assert server.process.wait(60) is not None
