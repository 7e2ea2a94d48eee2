"""Which of the server's variables vLLM's two Ray executors give their workers. Ray itself is not installed here."""

from __future__ import annotations

import pytest
from vllm.ray.ray_env import get_env_vars_to_copy
from vllm.v1.executor.ray_env_utils import get_driver_env_vars
from vllm.v1.executor.ray_utils import WORKER_SPECIFIC_ENV_VARS

from forkpoint_policies.worker.endpoint import TELEMETRY_KEY
from forkpoint_policies.worker.orphan import SERVER_PID, name_server


@pytest.fixture(autouse=True)
def server_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TELEMETRY_KEY, "the same on all hosts")
    monkeypatch.setenv(SERVER_PID, name_server(1))


def test_the_v2_executor_gives_all_of_them() -> None:
    """So workers derive the server's keys without being given FORKPOINT_TELEMETRY_KEY, and the secret travels."""
    given = get_driver_env_vars(worker_specific_vars=WORKER_SPECIFIC_ENV_VARS)
    assert given[TELEMETRY_KEY] == "the same on all hosts"
    assert given[SERVER_PID] == name_server(1)


def test_the_older_executor_gives_none_of_ours() -> None:
    """There the key must be set on each machine, as without Ray, and no worker watches the server."""
    copied = get_env_vars_to_copy(exclude_vars=WORKER_SPECIFIC_ENV_VARS)
    assert not {TELEMETRY_KEY, SERVER_PID} & copied
