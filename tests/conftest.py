"""How the tests are spread over processes, so that each server is started once."""

from __future__ import annotations

import os

import pytest

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
