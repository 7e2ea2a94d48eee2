"""Which of the server's variables vLLM's two Ray executors give their workers. Ray itself is not installed here."""

from __future__ import annotations

import pytest
from vllm.config import VllmConfig
from vllm.ray.ray_env import get_env_vars_to_copy
from vllm.v1.executor.ray_env_utils import get_driver_env_vars
from vllm.v1.executor.ray_utils import WORKER_SPECIFIC_ENV_VARS

from forkpoint_policies.worker.endpoint import TELEMETRY_KEY
from forkpoint_policies.worker.last_layer import EXTENSION
from forkpoint_policies.worker.meeting import MEETING
from forkpoint_policies.worker.orphan import SERVER_PID, name_server
from forkpoint_server.ray_workers import COPIED, await_ray_workers


@pytest.fixture(autouse=True)
def meeting(monkeypatch: pytest.MonkeyPatch) -> str:
    """The environment of a server under Ray, and where it awaits its workers."""
    for name in (MEETING, COPIED):
        monkeypatch.setenv(name, "")
    monkeypatch.setenv(TELEMETRY_KEY, "the same on all hosts")
    monkeypatch.setenv(SERVER_PID, name_server(1))
    config = VllmConfig()
    config.parallel_config.data_parallel_backend = "ray"
    workers = await_ray_workers(config, EXTENSION, "127.0.0.1")
    assert workers is not None
    return workers.address


def test_the_v2_executor_gives_all_of_them(meeting: str) -> None:
    """So workers derive the server's keys without being given FORKPOINT_TELEMETRY_KEY, and the secret travels."""
    given = get_driver_env_vars(worker_specific_vars=WORKER_SPECIFIC_ENV_VARS)
    assert given[TELEMETRY_KEY] == "the same on all hosts"
    assert given[SERVER_PID] == name_server(1)
    assert given[MEETING] == meeting


def test_the_older_executor_gives_the_address_where_they_are_awaited() -> None:
    """And nothing else of ours: the key must be set on each machine, as without Ray, and no worker watches the
    server."""
    copied = get_env_vars_to_copy(exclude_vars=WORKER_SPECIFIC_ENV_VARS)
    assert {TELEMETRY_KEY, SERVER_PID, MEETING} & copied == {MEETING}
