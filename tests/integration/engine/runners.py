"""Engines with either of vLLM's model runners, each in a process of its own, and draft models to speculate with.

V2 needs a GPU, or Triton's interpreter, which must be chosen before Python imports Triton: hence the processes.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from vllm import SamplingParams
from vllm.inputs import TokensPrompt
from vllm.outputs import CompletionOutput

from forkpoint_server.demo import WEIGHTS
from tests.processes.forkpoint_server import CACHE_BYTES, ONE_PROCESS

START_SECONDS = 600
JOB_SECONDS = 600
OPTIONS: dict[str, Any] = {
    "model": str(WEIGHTS), "enforce_eager": True, "max_model_len": 1024, "block_size": 32, "max_num_seqs": 16,
    "disable_log_stats": False, "kv_cache_memory_bytes": CACHE_BYTES,
    "dtype": "float32",
}  # fmt: skip
HERE = Path(__file__).parent
INTERPRETED = {"TRITON_INTERPRET": "1", "VLLM_USE_V2_MODEL_RUNNER": "1"}


class Runner:
    """A running engine; `counters` are vLLM's, as of its last answer, and `log` the file with what it printed."""

    def __init__(self, process: subprocess.Popen[bytes], connection: Connection[Any, Any], log: Path) -> None:
        self.log = log
        self.counters: dict[str, int] = {}
        self._process = process
        self._connection = connection

    def generate(self, prompts: Sequence[TokensPrompt], params: Sequence[SamplingParams]) -> list[tuple[int, ...]]:
        """The tokens of each prompt's first choice. All run at once, as many as `max_num_seqs`."""
        return [tuple(one.token_ids) for one in self.complete(prompts, params)]

    def complete(self, prompts: Sequence[TokensPrompt], params: Sequence[SamplingParams]) -> list[CompletionOutput]:
        """The same, as vLLM returns each choice."""
        self._connection.send((list(prompts), list(params)))
        found, self.counters = self.receive(JOB_SECONDS)
        return list(found)

    def call(self, method: str, *args: Any) -> list[Any]:
        """What every worker answers to a method of its extension."""
        self._connection.send((method, list(args)))
        return list(self.receive(JOB_SECONDS))

    def receive(self, seconds: float) -> Any:
        """What it answers next."""
        deadline = time.monotonic() + seconds
        # A killed engine may leave workers that hold its end of the socket open: look at the process as well.
        while not self._connection.poll(1):
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"no answer (status {self._process.returncode}):\n{self.log.read_text()[-4000:]}")
        value, error = self._connection.recv()
        if error is not None:
            raise RuntimeError(f"{error}\n{self.log.read_text()[-4000:]}")
        return value

    @property
    def acceptance(self) -> float:
        """The share of drafted tokens that were accepted."""
        return (
            self.counters["vllm:spec_decode_num_accepted_tokens"] / self.counters["vllm:spec_decode_num_draft_tokens"]
        )


@contextmanager
def runner(log: Path, *, v2: bool, environment: Mapping[str, str] | None = None, **options: Any) -> Iterator[Runner]:
    """An engine until the block ends: OPTIONS and these of `vllm.LLM`, on the V2 model runner (interpreted) or on V1.

    Its `logits_processors` can be named as in "tests.integration.engine.row_recorder:RowRecorder".
    """
    ours, theirs = socket.socketpair()
    paths = [str(HERE / "interpreter")] * v2 + [str(HERE.parent.parent), os.environ.get("PYTHONPATH", "")]
    variables = {
        **os.environ,
        **ONE_PROCESS,
        **(INTERPRETED if v2 else {"VLLM_USE_V2_MODEL_RUNNER": "0"}),
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        **(environment or {}),
    }
    command = [
        sys.executable,
        "-m",
        "tests.integration.engine.runner_process",
        str(theirs.fileno()),
        json.dumps({**OPTIONS, **options}),
    ]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            env=variables,
            stdout=output,
            stderr=subprocess.STDOUT,
            pass_fds=[theirs.fileno()],
            start_new_session=True,
        )
    theirs.close()
    connection: Connection[Any, Any] = Connection(ours.detach())
    started = Runner(process, connection, log)
    try:
        started.receive(START_SECONDS)
        yield started
    finally:
        # Killed, with the processes that vLLM started in its session: a regular shutdown takes many seconds.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        connection.close()


def speculating(draft: Path, tokens: int = 3) -> dict[str, Any]:
    """The `speculative_config` that lets a draft model propose so many tokens at a step."""
    return {"method": "draft_model", "model": str(draft), "num_speculative_tokens": tokens}


def write_noisy_model(folder: Path, noise: float) -> Path:
    """The embedded model with noise in its weights, as a share of their spread: a draft that is sometimes wrong."""
    shutil.copytree(WEIGHTS, folder)
    generator = torch.Generator().manual_seed(0)
    weights = load_file(WEIGHTS / "model.safetensors")
    for name, values in weights.items():
        if values.dim() == 2:
            added = torch.randn(values.shape, generator=generator) * values.float().std() * noise
            weights[name] = (values.float() + added).to(values.dtype)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder
