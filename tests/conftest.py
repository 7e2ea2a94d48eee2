"""The servers that tests share, and the groups of tests that run in one process, so that each server starts once."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from httpx import create_ssl_context
from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

from tests.processes.forkpoint_server import ADMIN_KEY, API_KEY, ONE_PROCESS, Server, serving, write_random_model

# Otherwise vLLM binds the workers of all servers to the same core.
os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")
os.environ.setdefault("OMP_NUM_THREADS", "1")

GROUPS = {"api": "embedded", "e2e": "embedded", "clients": "embedded", "branching": "branching", "hosts": "hosts"}
"""Folder of `tests/integration` -> group of tests that share a server, or the addresses of two hosts. In other folders
each file starts its own server."""


class ByServer(LoadScopeScheduling):  # type: ignore[misc]
    """Tests that share a server run in one process; unit tests in whichever is free."""

    def _split_scope(self, nodeid: str) -> str:
        path = Path(nodeid.partition("::")[0])
        if path.is_relative_to("tests/unit"):
            return nodeid
        return GROUPS.get(path.parent.name, path.stem)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByServer:
    """xdist's own scheduler, but for what a group is."""
    return ByServer(config, log)


def pytest_addoption(parser: pytest.Parser) -> None:
    """The model of `make soak MODEL=PATH`."""
    parser.addoption("--real-model", metavar="PATH", help="folder of a model, to compare with stock vLLM on it")
    parser.addoption(
        "--real-model-arguments",
        default="--enable-auto-tool-choice --tool-call-parser hermes",
        help="its further arguments for both servers; default: %(default)s",
    )


@pytest.fixture(scope="session", autouse=True)
def one_tls_context() -> Iterator[None]:
    """Not one per `httpx.get` and per SDK client: each takes 40 ms of CPU, which polling takes from the engine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("httpx._transports.default.create_ssl_context", cache(create_ssl_context))
        yield


CALM = """\
name: calm
description: Lowers reflection words at forks.
rules:
  - when: {entropy_above: fork, region: reasoning}
    do: {suppress: {connectors: [reflection], bias: -8.0}}
"""


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """`forkpoint serve`, as one would start it: the embedded model. It shows its experiments' clients their arms."""
    with serving(tmp_path_factory.mktemp("embedded"), "--show-arms", environment=ONE_PROCESS) as running:
        yield running


@pytest.fixture(scope="session")
def other_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """`forkpoint serve SOME/MODEL` with arguments of vLLM's and of ours."""
    folder = tmp_path_factory.mktemp("other")
    (folder / "policies").mkdir()
    (folder / "policies" / "calm.yaml").write_text(CALM)
    model = write_random_model(folder / "model")
    with serving(
        folder, str(model), "--load-format", "dummy", "--served-model-name", "random", "--max-model-len", "256",
        "--enforce-eager",
        "--api-key", API_KEY, "--admin-api-key", ADMIN_KEY, "--policies", str(folder / "policies"), "--policy", "calm",
        "--model-aliases", "calm",
        environment=ONE_PROCESS,
    ) as running:  # fmt: skip
        yield running
