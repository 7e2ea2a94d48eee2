"""The embedded model on two hosts: a server on the first, a headless node on the second."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import MappingProxyType

import httpx

from forkpoint_server.cli import DEMO_ARGUMENTS

from .forkpoint_server import COMMAND, START_SECONDS, Server
from .hosts import Host

PORT = 8189
CPU = {"VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": "1"}
END_SECONDS = 60


@contextmanager
def serving(
    hosts: Sequence[Host],
    parallel: Sequence[str],
    of_first: Sequence[str],
    of_second: Sequence[str],
    environment: Mapping[str, str] = MappingProxyType({}),
    of_seconds_environment: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[Server]:
    """Start both nodes with the arguments in `parallel` and those of each; end them after the block.

    Raises RuntimeError, with the end of each node's log, if the server does not become healthy.
    """
    first, second = hosts
    at = DEMO_ARGUMENTS.index("--host")
    model = [*DEMO_ARGUMENTS[:at], *DEMO_ARGUMENTS[at + 2 :], "--kv-cache-memory-bytes", "256M", *parallel]
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for host, own, variables in (
            (first, ["--host", first.address, "--port", str(PORT), *of_first], environment),
            (second, ["--headless", *of_second], {**environment, **of_seconds_environment}),
        ):
            with log_of(host).open("wb") as output:
                processes.append(
                    subprocess.Popen(
                        host.command(str(COMMAND), "serve", *model, *own),
                        stdout=output,
                        stderr=subprocess.STDOUT,
                        env={**os.environ, **CPU, **host.environment(), **variables},
                        start_new_session=True,
                    )
                )
        server = Server(f"http://{first.address}:{PORT}", log_of(first), processes[0])
        _wait_until_healthy(server, hosts, processes)
        yield server
    finally:
        for process in processes:
            process.send_signal(signal.SIGTERM)
        for process in processes:
            with suppress(subprocess.TimeoutExpired):
                process.wait(END_SECONDS)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def log_of(host: Host) -> Path:
    """What the node on that host has written."""
    return host.folder.parent / f"{host.folder.name}.log"


def _wait_until_healthy(server: Server, hosts: Sequence[Host], processes: Sequence[subprocess.Popen[bytes]]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and all(process.poll() is None for process in processes):
        with suppress(httpx.TransportError):
            if httpx.get(f"{server.url}/health", timeout=2).status_code == 200:
                return
        time.sleep(0.5)
    raise RuntimeError("not healthy:\n" + "\n---\n".join(log_of(host).read_text()[-3000:] for host in hosts))
