"""A second host with another Forkpoint, or another telemetry key: the server ends with one line that says so."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from forkpoint_policies.worker.endpoint import TELEMETRY_KEY
from forkpoint_policies.worker.identity import own_version
from tests.processes.hosts import Host
from tests.processes.nodes import serving


def test_another_key(two_hosts: Sequence[Host]) -> None:
    parallel = ["--tensor-parallel-size", "2", "--nnodes", "2", "--master-addr", two_hosts[0].address]
    first, second = {TELEMETRY_KEY: "the key of the first host"}, {TELEMETRY_KEY: "the key of the second"}
    says = f"forkpoint serve: Forkpoint differs on host2: {TELEMETRY_KEY} is not the one of the server; set the same on"
    with (
        pytest.raises(RuntimeError, match=says),
        serving(two_hosts, parallel, ["--node-rank", "0"], ["--node-rank", "1"], first, second),
    ):
        pass


def test_another_version(two_hosts: Sequence[Host], tmp_path: Path) -> None:
    """On a data-parallel rank, whose answers vLLM drops: only an error comes through."""
    installed = tmp_path / "forkpoint_policies-9.9.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.4\nName: forkpoint-policies\nVersion: 9.9\n")
    address = two_hosts[0].address
    parallel = ["--data-parallel-size", "2", "--data-parallel-size-local", "1", "--data-parallel-address", address]
    says = rf"forkpoint serve: Forkpoint differs on host2: version 9\.9 there, {own_version()} on the server; install"
    with (
        pytest.raises(RuntimeError, match=says),
        serving(
            two_hosts, parallel, [], ["--data-parallel-start-rank", "1"],
            of_seconds_environment={"PYTHONPATH": str(tmp_path)},
        ),
    ):  # fmt: skip
        pass
