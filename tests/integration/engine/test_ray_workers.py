"""The engine's workers are compared with the server before they load the model, where vLLM's own code makes them.

vLLM refuses Ray on CPUs, so its other executors make the workers here: all do it by one function (`test_seams.py`).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from forkpoint_policies.worker.identity import own_version
from forkpoint_policies.worker.last_layer import EXTENSION
from forkpoint_policies.worker.meeting import MEETING
from forkpoint_server.ray_workers import RayWorkers
from tests.integration.engine.runners import OPTIONS

HOST = "127.0.0.1"
LOADS = "Starting to load model"
"""vLLM's log of a worker."""
START = "import json, sys; from vllm import LLM; LLM(**json.loads(sys.argv[1]))"
SECONDS = 300


def start_engine(workers: RayWorkers, tensor_parallel_size: int, first_on_path: str = "") -> tuple[int, str]:
    """The status and the log of a process that makes an engine whose workers are awaited, and ends."""
    options = OPTIONS | {"worker_extension_cls": EXTENSION, "tensor_parallel_size": tensor_parallel_size}
    path = os.pathsep.join(filter(None, [first_on_path, os.environ.get("PYTHONPATH", "")]))
    ended = subprocess.run(
        [sys.executable, "-c", START, json.dumps(options)],
        env={**os.environ, MEETING: workers.address, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=SECONDS,
        check=False,
    )
    return ended.returncode, ended.stdout.decode()


def test_two_workers_come_and_load_the_model() -> None:
    workers = RayWorkers(HOST, 3)
    status, log = start_engine(workers, 2)
    assert status == 0, log[-4000:]
    assert LOADS in log
    assert workers.problem().startswith("1 of 3 workers did not come")


@pytest.mark.parametrize("tensor_parallel_size", [1, 2])
def test_one_of_another_version_loads_nothing(tensor_parallel_size: int, tmp_path: Path) -> None:
    installed = tmp_path / "forkpoint_policies-9.9.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.4\nName: forkpoint-policies\nVersion: 9.9\n")
    workers = RayWorkers(HOST, tensor_parallel_size)
    status, log = start_engine(workers, tensor_parallel_size, str(tmp_path))
    assert status != 0
    assert LOADS not in log
    assert f": version 9.9 there, {own_version()} on the server; install the same" in workers.problem()
    assert workers.problem() in log
