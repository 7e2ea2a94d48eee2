"""The servers that API and browser tests share, and how the tests are spread over processes, so that each is started once."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.serving import ADMIN_KEY, API_KEY, Server, serving, write_random_model

os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")  # otherwise all servers' workers are bound to the same core
os.environ.setdefault("OMP_NUM_THREADS", "1")

SHARED = {
    "exact": {"exact_server", "exact_client", "other_server", "own_server", "collector"},
    "server": {"server", "client"},
}
"""Groups of tests, by the servers that they share; the first that fits. The rest of the files with servers go by themselves."""
BY_FILE = ("engine", "drop_in")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """With `--dist loadgroup` a group's tests run in one process; unit tests run in whichever is free."""
    for item in items:
        used = set(getattr(item, "fixturenames", ()))
        group = next((name for name, servers in SHARED.items() if servers & used), None)
        if group is None and item.path.parent.name in BY_FILE:
            group = item.path.stem
        if group is not None:
            item.add_marker(pytest.mark.xdist_group(group))


CALM = """\
name: calm
description: Lowers reflection words at forks.
rules:
  - when: {entropy_above: fork, region: reasoning}
    do: {suppress: {connectors: [reflection], bias: -8.0}}
"""


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """`forkpoint serve`, as one would start it: the embedded model."""
    with serving(tmp_path_factory.mktemp("embedded")) as running:
        yield running


@pytest.fixture(scope="session")
def other_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """`forkpoint serve SOME/MODEL` with arguments of vLLM's and of ours."""
    folder = tmp_path_factory.mktemp("other")
    (folder / "policies").mkdir()
    (folder / "policies" / "calm.yaml").write_text(CALM)
    model = write_random_model(folder / "model")
    with serving(
        folder, str(model), "--load-format", "dummy", "--served-model-name", "random", "--max-model-len", "256", "--enforce-eager",
        "--api-key", API_KEY, "--admin-api-key", ADMIN_KEY, "--policies", str(folder / "policies"), "--policy", "calm",
    ) as running:  # fmt: skip
        yield running
