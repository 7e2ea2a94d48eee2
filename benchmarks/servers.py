"""Stock vLLM and `forkpoint serve`, as processes with the same arguments."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil

from tests.processes.forkpoint_server import COMMAND, Server, running

START_SECONDS = 900  # vLLM may compile the model first
STOCK = (sys.executable, "-m", "vllm.entrypoints.launchers.api_server.entry")
FORKPOINT = (str(COMMAND), "serve")
WHOLE_PROMPTS = () if shutil.which("nvidia-smi") else ("--no-enable-chunked-prefill",)
"""On a CPU, Forkpoint starts so, and stock vLLM crashes at requests with seeds if it does not."""
SHARED_GPU = ("--gpu-memory-utilization", "0.2") if shutil.which("nvidia-smi") else ()
"""Several servers share one GPU. vLLM starts only while this share of its memory is free. The cache takes what
`--kv-cache-memory-bytes` says, which all servers here have."""
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
    """Stock vLLM and Forkpoint with these arguments, until the block ends."""
    with beside_stock(folder, stock, forkpoint) as (first, second):
        yield first, second


@contextmanager
def beside_stock(folder: Path, stock: Sequence[str], *forkpoints: Sequence[str]) -> Iterator[tuple[ServerProcess, ...]]:
    """Stock vLLM and a Forkpoint for each list of arguments, until the block ends.

    They start in turn, to compile only once.
    """
    commands = {"stock": [*STOCK, *stock]}
    for number, own in enumerate(forkpoints):
        commands[f"forkpoint-{number}" if number else "forkpoint"] = [*FORKPOINT, *own]
    with ExitStack() as stack:
        yield tuple(
            stack.enter_context(_running([*command, *WHOLE_PROMPTS], folder / f"{name}.log"))
            for name, command in commands.items()
        )


@contextmanager
def forkpoints(folder: Path, arguments: Sequence[Sequence[str]]) -> Iterator[list[ServerProcess]]:
    """A Forkpoint for each list of arguments, until the block ends. They start in turn."""
    with ExitStack() as stack:
        yield [
            stack.enter_context(_running([*FORKPOINT, *own], folder / f"forkpoint-{number}.log"))
            for number, own in enumerate(arguments)
        ]


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
    on_loopback = [*command, *SHARED_GPU, "--host", "127.0.0.1"]
    # a server that does not end in time was killed, which is no reason to lose a measurement
    with suppress(subprocess.TimeoutExpired), running(on_loopback, log, environment or {}, START_SECONDS) as server:
        yield ServerProcess(server.url, server.log, server.process)
