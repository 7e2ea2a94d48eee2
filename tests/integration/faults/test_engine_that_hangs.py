"""An engine that lives and answers nothing: `/health` says so after a minute, and no longer once it answers."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil
import pytest

from tests.integration.polling import until
from tests.processes.forkpoint_server import serving

pytestmark = pytest.mark.soak
BODY = {"model": "countdown", "prompt": "Use 3", "max_tokens": 3}


def test_an_engine_that_hangs_is_unhealthy(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        health = f"{server.url}/health?details"
        engine = [child.pid for child in psutil.Process(server.process.pid).children(recursive=True)]
        assert engine
        for process in engine:
            os.kill(process, signal.SIGSTOP)
        try:
            with ThreadPoolExecutor(1) as pool:
                pending = pool.submit(httpx.post, f"{server.api}/completions", json=BODY, timeout=600)
                until(lambda: httpx.get(health).status_code == 503, seconds=90)
                assert "restart" in httpx.get(health).json()["warnings"][0]
                for process in engine:
                    os.kill(process, signal.SIGCONT)
                assert pending.result().status_code == 200
        finally:
            for process in engine:
                os.kill(process, signal.SIGCONT)
        until(lambda: httpx.get(health).status_code == 200, seconds=30)
