"""A second host that cannot work with the first: both end with one line that says so, before they load the model."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import pytest

from forkpoint_policies.worker.endpoint import TELEMETRY_KEY
from forkpoint_policies.worker.identity import own_version
from tests.processes.hosts import Host
from tests.processes.nodes import log_of, serving

NOTHING: Mapping[str, str] = MappingProxyType({})
UNREACHABLE = "192.0.2.7"
LOADING = "Initializing a V1 LLM engine", "Starting to load model"
"""vLLM's log of an engine that starts, and of each worker."""


def check_refused(
    hosts: Sequence[Host],
    says: str,
    arguments: tuple[list[str], list[str], list[str]],
    of_first: Mapping[str, str] = NOTHING,
    of_second: Mapping[str, str] = NOTHING,
) -> None:
    """Start both nodes, with arguments for both and for each, and check the last line of both."""
    with pytest.raises(RuntimeError), serving(hosts, *arguments, of_first, of_second):
        pass
    for host in hosts:
        log = log_of(host).read_text()
        (line,) = [line for line in log.splitlines() if line.startswith("forkpoint serve:")]
        assert line.startswith(f"forkpoint serve: {says}")
        assert "Traceback" not in log
        assert not any(text in log for text in LOADING)


def tensor_parallel(hosts: Sequence[Host], *of_first: str) -> tuple[list[str], list[str], list[str]]:
    parallel = ["--tensor-parallel-size", "2", "--nnodes", "2", "--master-addr", hosts[0].address]
    return parallel, ["--node-rank", "0", *of_first], ["--node-rank", "1"]


def test_another_key(two_hosts: Sequence[Host]) -> None:
    first, second = {TELEMETRY_KEY: "the key of the first host"}, {TELEMETRY_KEY: "the key of the second"}
    says = f"Forkpoint differs on host2: {TELEMETRY_KEY} is not the one of the server; set the same on"
    check_refused(two_hosts, says, tensor_parallel(two_hosts), first, second)


def test_no_route_to_the_telemetry_host(two_hosts: Sequence[Host]) -> None:
    two_hosts[0].add_unreachable_address(UNREACHABLE)
    says = f"no route from host2 to {UNREACHABLE}, where the server takes records ("
    check_refused(two_hosts, says, tensor_parallel(two_hosts, "--telemetry-host", UNREACHABLE))


def test_another_version(two_hosts: Sequence[Host], tmp_path: Path) -> None:
    """On a data-parallel rank."""
    installed = tmp_path / "forkpoint_policies-9.9.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.4\nName: forkpoint-policies\nVersion: 9.9\n")
    parallel = ["--data-parallel-size", "2", "--data-parallel-size-local", "1"]
    says = f"Forkpoint differs on host2: version 9.9 there, {own_version()} on the server; install"
    check_refused(
        two_hosts,
        says,
        ([*parallel, "--data-parallel-address", two_hosts[0].address], [], ["--data-parallel-start-rank", "1"]),
        of_second={"PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])},
    )


def test_another_key_with_data_parallel_ranks_and_nodes(two_hosts: Sequence[Host]) -> None:
    """`--nnodes` and `--data-parallel-size` together."""
    both, of_first, of_second = tensor_parallel(two_hosts)
    says = f"Forkpoint differs on host2: {TELEMETRY_KEY} is set on the server and not there; set the same on"
    both = [*both, "--tensor-parallel-size", "1", "--data-parallel-size", "2"]
    check_refused(
        two_hosts, says, (both, of_first, of_second), {TELEMETRY_KEY: "the key of the first host"}, {TELEMETRY_KEY: ""}
    )
