"""Stock vLLM and `forkpoint serve`, as processes with the same arguments."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil

from tests.processes.forkpoint_server import COMMAND, Server, free_port

START_SECONDS = 900  # vLLM may compile the model first
STOCK = (sys.executable, "-m", "vllm.entrypoints.launchers.api_server.entry")
FORKPOINT = (str(COMMAND), "serve")
TOO_LONG = 108
"""Characters of a path that no Unix socket can have."""


@dataclass(frozen=True)
class ServerProcess(Server):
    """A server of which it is known what it uses."""

    def processor_seconds(self) -> float:
        """What the server and its engine have used of the processor so far."""
        own = psutil.Process(self.process.pid)
        times = [one.cpu_times() for one in (own, *own.children(recursive=True))]
        return sum(float(one.user + one.system) for one in times)

    def policies(self) -> set[str]:
        """The names of the policies that it serves, if it is a Forkpoint."""
        listed: dict[str, Any] = httpx.get(f"{self.api}/policies").raise_for_status().json()
        return {policy["name"] for policy in listed["data"]}


@contextmanager
def both(folder: Path, stock: Sequence[str], forkpoint: Sequence[str]) -> Iterator[tuple[ServerProcess, ServerProcess]]:
    """Stock vLLM and Forkpoint with these arguments, until the block ends. They start in turn, to compile only once."""
    with ExitStack() as stack:
        first = stack.enter_context(_running([*STOCK, *stock], folder / "stock.log"))
        second = stack.enter_context(_running([*FORKPOINT, *forkpoint], folder / "forkpoint.log"))
        yield first, second


@contextmanager
def without_and_with_telemetry(folder: Path) -> Iterator[tuple[ServerProcess, ServerProcess]]:
    """Two Forkpoints with the embedded model, until the block ends. The first cannot create its telemetry socket."""
    (unusable := folder / ("t" * TOO_LONG)).mkdir()
    silent = {"TMPDIR": str(unusable), "VLLM_RPC_BASE_PATH": str(folder)}  # vLLM's own sockets are where they can be
    with ExitStack() as stack:
        first = stack.enter_context(_running(FORKPOINT, folder / "without.log", silent))
        assert "no telemetry" in first.log.read_text()
        second = stack.enter_context(_running(FORKPOINT, folder / "with.log"))
        yield first, second


@contextmanager
def _running(
    command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None
) -> Iterator[ServerProcess]:
    port = free_port()
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port)],
            stdout=output, stderr=subprocess.STDOUT, cwd=log.parent,
            env={**os.environ, **(environment or {})},
        )  # fmt: skip
    server = ServerProcess(f"http://127.0.0.1:{port}", log, process)
    try:
        _wait_until_healthy(process, server)
        yield server
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()


def _wait_until_healthy(process: subprocess.Popen[bytes], server: Server) -> None:
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            if httpx.get(f"{server.url}/health", timeout=2).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.2)
    raise RuntimeError(
        f"the server ended, or was not healthy after {START_SECONDS} s:\n{server.log.read_text()[-4000:]}"
    )
