"""SIGTERM while streams run: they end as those of stock vLLM do, and every request is recorded."""

from __future__ import annotations

import json
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from sqlalchemy import text

from benchmarks.servers import ServerProcess, both
from forkpoint_server.cli import DEMO_ARGUMENTS
from forkpoint_server.store.database import open_database
from tests.integration.polling import until
from tests.processes.forkpoint_server import Server

from .experiment_client import EXPERIMENT, MESSAGES

pytestmark = pytest.mark.soak
STREAMS = 6
TOKENS = {"abort": 2000, "drain": 600}
ARGUMENTS = {"abort": (), "drain": ("--shutdown-timeout", "60")}
"""On SIGTERM vLLM aborts running requests, unless a timeout lets them finish."""
PATIENCE_SECONDS = 20
"""How long a client waits for the next token."""
CUT_OFF = {
    "stock": {"done, abort", "ReadTimeout, None"},
    "ours": {"done, abort", "RemoteProtocolError, None"},
}
"""How a stream ends that vLLM ends. Now and then the engine is gone before it says so: stock's streams then stay open
until their clients leave, and ours for 10 seconds."""


@dataclass(frozen=True)
class Ended:
    """How a server ended: the last thing that each stream said, the process's status, and seconds from the signal."""

    streams: tuple[str, ...]
    status: int
    seconds: float


def last_said(server: Server, number: int, tokens: int) -> str:
    """One stream to its end: `done`, an error's type, or that the connection was cut."""
    body = {
        "model": "countdown", "messages": MESSAGES, "stream": True, "max_tokens": tokens, "ignore_eos": True,
        "seed": number, "user": f"user {number}",
    }  # fmt: skip
    last, reason = "nothing", None
    try:
        with httpx.stream("POST", f"{server.api}/chat/completions", json=body, timeout=PATIENCE_SECONDS) as response:
            for line in response.iter_lines():
                if line == "data: [DONE]":
                    last = "done"
                elif line.startswith("data: "):
                    data = json.loads(line[6:])
                    last = f"error {data['error']['type']}" if "error" in data else "token"
                    reason = next(
                        (choice["finish_reason"] for choice in data.get("choices", ()) if choice["finish_reason"]),
                        reason,
                    )
    except httpx.TransportError as error:
        last = type(error).__name__
    return f"{last}, {reason}"


def ended(server: ServerProcess, tokens: int) -> Ended:
    """Start streams, send SIGTERM while they run, and wait for the end."""
    with ThreadPoolExecutor(STREAMS) as pool:
        streams = [pool.submit(last_said, server, number, tokens) for number in range(STREAMS)]
        gauge = 'vllm:num_requests_running{engine="0",model_name="countdown"}'
        until(lambda: server.metrics()[gauge] == STREAMS)
        time.sleep(1)
        signalled = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        status = server.process.wait(120)
        seconds = time.monotonic() - signalled
        return Ended(tuple(sorted(one.result() for one in streams)), status, seconds)


@pytest.mark.parametrize("how", ARGUMENTS)
def test_streams_end_as_those_of_stock_do(how: str, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'store.sqlite3'}"
    arguments = ARGUMENTS[how]
    with both(tmp_path, ["--model", *DEMO_ARGUMENTS, *arguments], ["--database-url", url, *arguments]) as (stock, ours):
        httpx.post(f"{ours.api}/experiments", json=EXPERIMENT, timeout=60).raise_for_status()
        theirs, own = (ended(one, TOKENS[how]) for one in (stock, ours))
    assert own.status == theirs.status == 0
    for name, ended_server in (("ours", own), ("stock", theirs)):
        assert set(ended_server.streams) <= ({"done, length"} if how == "drain" else CUT_OFF[name])
        assert ended_server.seconds < PATIENCE_SECONDS + 15
    database = open_database(url)
    with database.connect() as connection:
        recorded = connection.execute(text("SELECT finish_reason, count(*) FROM assignments GROUP BY 1")).all()
    database.dispose()
    assert sum(count for _, count in recorded) == STREAMS, recorded
    assert {reason for reason, _ in recorded} == {"length" if how == "drain" else "abort"}
