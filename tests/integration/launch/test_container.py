"""The server as an arbitrary user with a read-only root: it starts, serves, stores, and ends on SIGTERM."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.integration.puzzles import MESSAGES
from tests.processes.container import TEMPORARY, USER, container_command
from tests.processes.forkpoint_server import COMMAND, ONE_PROCESS, running

pytestmark = pytest.mark.soak


def test_it_serves(tmp_path: Path) -> None:
    variables = {
        "PYTHONPATH": os.pathsep.join(one for one in sys.path if one), "PYTHONDONTWRITEBYTECODE": "1",
        "XDG_DATA_HOME": f"{TEMPORARY}/data", **ONE_PROCESS,
    }  # fmt: skip
    if subprocess.run(container_command(["true"], {}), check=False, capture_output=True).returncode:
        pytest.skip("needs user namespaces")
    command = container_command([str(COMMAND), "serve", "--kv-cache-memory-bytes", "512M"], variables)
    with running(command, tmp_path / "server.log", {}) as server:
        body = {"model": "countdown", "messages": MESSAGES, "max_tokens": 20, "policy": "nowait", "logprobs": True}
        answered = httpx.post(f"{server.api}/chat/completions", json=body, timeout=120).raise_for_status().json()
        assert answered["forkpoint"]["complete"] is True
        policy = {"rules": [{"do": {"temperature": 1.2}}]}
        assert httpx.put(f"{server.api}/policies/own", json=policy, timeout=60).status_code == 201
    log = server.log.read_text()
    assert f"caches are in {TEMPORARY}/forkpoint-{USER}" in log
    assert "Traceback" not in log
    assert server.process.returncode == 0
