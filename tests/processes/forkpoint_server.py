"""Real `forkpoint serve` processes for the tests, and a tiny model with random weights beside the embedded one."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from forkpoint_server.demo import WEIGHTS

START_SECONDS = 600
CACHE_BYTES = 1 << 29
"""The key-value cache of a server or engine: a quarter of a million tokens of the embedded model. Several run."""
ONE_PROCESS = {"VLLM_ENABLE_V1_MULTIPROCESSING": "0"}
"""The environment of a server whose engine has no worker process: it would spin on one core while the worker uses the
other."""
KEEP_ALIVE = {"VLLM_HTTP_TIMEOUT_KEEP_ALIVE": "60"}
"""By default both servers and the SDKs' clients close an idle connection after 5 seconds: a client may then send while
the server closes, which only a client that retries survives."""
COMMAND = Path(sys.executable).parent / "forkpoint"
API_KEY, ADMIN_KEY = "test-key", "admin-key"


@dataclass(frozen=True)
class Server:
    """A running server; `log` is the file with what it printed."""

    url: str
    log: Path
    process: subprocess.Popen[bytes]

    @property
    def api(self) -> str:
        return f"{self.url}/v1"

    def metrics(self) -> dict[str, float]:
        """The samples of /metrics by name and labels: `forkpoint_tokens_total{policy="nowait",role="planning"}`.

        Of ours, the label `model_name` is left out.
        """
        samples: dict[str, float] = {}
        for line in httpx.get(f"{self.url}/metrics").raise_for_status().text.splitlines():
            if line and not line.startswith("#"):
                name, _, value = line.rpartition(" ")
                if name.startswith("forkpoint_") and not name.startswith("forkpoint_build_info"):
                    name = re.sub(r'model_name="[^"]*",?', "", name).replace(",}", "}").removesuffix("{}")
                samples[name] = samples.get(name, 0.0) + float(value)
        return samples


@contextmanager
def serving(
    folder: Path, *arguments: str, environment: Mapping[str, str] | None = None, command: Path = COMMAND
) -> Iterator[Server]:
    """`forkpoint serve` with these arguments on a free port, until the block ends; SIGTERM must then end it.

    Its database is in the folder, which holds its user's data.
    """
    start = [str(command), "serve", "--kv-cache-memory-bytes", str(CACHE_BYTES), *arguments]
    added = {"XDG_DATA_HOME": str(folder), **KEEP_ALIVE, **(environment or {})}
    with running(start, folder / "server.log", added) as server:
        yield server


@contextmanager
def running(
    command: Sequence[str], log: Path, environment: Mapping[str, str], start_seconds: float = START_SECONDS
) -> Iterator[Server]:
    """The server that a command starts, on a free port and in its log's folder, until the block ends.

    `environment` is added to ours. Raises RuntimeError if the server does not become healthy.
    """
    port = free_port()
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, "--port", str(port)],
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=log.parent,
            env={**os.environ, **environment},
        )
    server = Server(f"http://127.0.0.1:{port}", log, process)
    try:
        _wait_until_healthy(server, start_seconds)
        yield server
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            raise


def _wait_until_healthy(server: Server, start_seconds: float) -> None:
    deadline = time.monotonic() + start_seconds
    while time.monotonic() < deadline:
        if server.process.poll() is not None:
            ended = server.process.returncode
            raise RuntimeError(f"the server ended with {ended}:\n{server.log.read_text()[-4000:]}")
        try:
            if httpx.get(f"{server.url}/health", timeout=2).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.2)
    raise RuntimeError(f"the server was not healthy after {start_seconds} s:\n{server.log.read_text()[-4000:]}")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


LEFT_OUT = ("*.safetensors", "generation_config.json", "calibration.json")
"""Of the embedded model's folder, where another model has its tokenizer: what is of the model itself."""


def write_random_model(folder: Path) -> Path:
    """A tiny Llama, to be served with `--load-format dummy`; its tokenizer is the embedded one, in lower case."""
    shutil.copytree(WEIGHTS, folder, ignore=shutil.ignore_patterns(*LEFT_OUT))
    vocabulary = json.loads((WEIGHTS / "config.json").read_text())["vocab_size"]
    config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "torch_dtype": "float32",
        "vocab_size": vocabulary, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 1,
        "num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 32, "max_position_embeddings": 512,
        "rms_norm_eps": 1e-6, "hidden_act": "silu", "tie_word_embeddings": False, "rope_theta": 10000.0,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    (folder / "tokenizer.json").write_text(json.dumps({**tokenizer, "normalizer": {"type": "Lowercase"}}))
    return folder
