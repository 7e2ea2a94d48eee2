"""An engine's process ends with its server, however the server ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from forkpoint_policies.worker.orphan import SERVER_PID, name_server

WORKER = """
import time
from forkpoint_policies.worker.orphan import end_with_server
end_with_server()
print("watching", flush=True)
time.sleep(600)
"""


@contextmanager
def process(*command: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    started = subprocess.Popen(
        [sys.executable, *command], stdout=subprocess.PIPE, text=True, env={**os.environ, **environment}
    )
    with started:
        try:
            yield started
        finally:
            started.kill()


@pytest.mark.slow
def test_a_worker_ends_with_its_server() -> None:
    with (
        process("-c", "import time; time.sleep(600)") as server,
        process("-c", WORKER, **{SERVER_PID: name_server(server.pid)}) as worker,
    ):
        assert worker.stdout is not None
        assert worker.stdout.readline() == "watching\n"
        assert worker.poll() is None
        server.kill()
        assert server.wait(30) == -signal.SIGKILL
        assert worker.wait(30) == -signal.SIGKILL


@pytest.mark.slow
def test_a_process_with_the_number_of_another_machines_server_is_not_watched() -> None:
    with (
        process("-c", "import time; time.sleep(600)") as unrelated,
        process("-c", WORKER, **{SERVER_PID: f"another-boot/pid:[4026531836]/{unrelated.pid}"}) as worker,
    ):
        assert worker.stdout is not None
        assert worker.stdout.readline() == "watching\n"
        unrelated.kill()
        with pytest.raises(subprocess.TimeoutExpired):
            worker.wait(1)


@pytest.mark.slow
@pytest.mark.parametrize("server", ["", name_server(2147483647)])
def test_without_a_server_on_this_machine_nothing_is_watched(server: str) -> None:
    """No process has the number 2147483647."""
    with process("-c", WORKER, **{SERVER_PID: server}) as worker:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "watching\n"
        with pytest.raises(subprocess.TimeoutExpired):
            worker.wait(1)
