"""A real Prometheus on the configuration that the repository ships, pointed at a server of the tests."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml

from .forkpoint_server import free_port

MONITORING = Path(__file__).parents[2] / "monitoring"
START_SECONDS = 60
PATIENCE_SECONDS = 60

HASTENED = {r"interval: \S+": "interval: 1s", r"offset \d+[hd]": "offset 1s"}
"""What a test that has a minute changes in the rules: how often they are evaluated, and how far they look back."""


def program(name: str) -> str:
    """Where `prometheus` or `promtool` is. Raises FileNotFoundError."""
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    if found is None:
        raise FileNotFoundError(
            f"{name} is not here: `make test` unpacks Debian's; elsewhere put one on PATH (https://prometheus.io/download)"
        )
    return found


@dataclass(frozen=True)
class Prometheus:
    """A running Prometheus."""

    url: str

    def get(self, path: str, **parameters: str) -> Any:
        """The data of a route of its API. Raises ValueError with what it says is wrong."""
        answer = httpx.get(f"{self.url}/api/v1/{path}", params=parameters, timeout=30).json()
        if answer["status"] != "success":
            raise ValueError(f"{answer['error']}: {parameters}")
        return answer["data"]

    def values(self, expression: str) -> dict[tuple[tuple[str, str], ...], float]:
        """What an expression gives now, by its labels."""
        found = self.get("query", query=expression)["result"]
        return {tuple(sorted(one["metric"].items())): float(one["value"][1]) for one in found}

    def awaited(self, expression: str) -> dict[tuple[tuple[str, str], ...], float]:
        """The same, as soon as there is anything. Raises TimeoutError."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not (found := self.values(expression)):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{expression} gave nothing in {PATIENCE_SECONDS} s")
            time.sleep(0.2)
        return found


@contextmanager
def running_prometheus(folder: Path, target: str) -> Iterator[Prometheus]:
    """A Prometheus that scrapes `host:port` each second, until the block ends."""
    (folder / "prometheus.yml").write_text(yaml.safe_dump(configuration(target)))
    for rules in ("rules.yml", "alerts.yml"):
        text = (MONITORING / rules).read_text()
        for slow, fast in HASTENED.items():
            text = re.sub(slow, fast, text)
        (folder / rules).write_text(text)
    port = free_port()
    with (folder / "prometheus.log").open("wb") as output:
        process = subprocess.Popen(
            [
                program("prometheus"), f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'data'}", f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn",
            ],
            stdout=output, stderr=subprocess.STDOUT, cwd=folder,
        )  # fmt: skip
    running = Prometheus(f"http://127.0.0.1:{port}")
    try:
        _wait_until_ready(process, running, folder / "prometheus.log")
        yield running
    finally:
        process.terminate()
        process.wait(30)


def configuration(target: str) -> dict[str, Any]:
    """The repository's, scraping this target every second."""
    config: dict[str, Any] = yaml.safe_load((MONITORING / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    (job,) = config["scrape_configs"]
    job["static_configs"] = [{"targets": [target]}]
    return config


def _wait_until_ready(process: subprocess.Popen[bytes], running: Prometheus, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        try:
            if httpx.get(f"{running.url}/-/ready", timeout=2).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise RuntimeError(f"Prometheus is not ready:\n{log.read_text()[-4000:]}")
