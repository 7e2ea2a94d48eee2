"""The address for workers on other hosts."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from forkpoint_policies.worker.endpoint import TELEMETRY_KEY
from forkpoint_server.telemetry_host import telemetry_host


def config(**parallel: Any) -> Any:
    fields = {
        "nnodes": 1, "data_parallel_size": 1, "data_parallel_size_local": 1, "local_engines_only": False,
        "use_ray": False, "data_parallel_backend": "mp",
    }  # fmt: skip
    addresses = {"master_addr": "127.0.0.2", "data_parallel_master_ip": "127.0.0.3"}
    return SimpleNamespace(parallel_config=SimpleNamespace(**fields | addresses | parallel))


@pytest.mark.parametrize(
    ("named", "parallel", "host"),
    [
        ("", {}, ""),
        ("", {"nnodes": 2}, "127.0.0.2"),
        ("", {"data_parallel_size": 2}, "127.0.0.3"),
        ("", {"data_parallel_size": 2, "data_parallel_size_local": 2}, ""),
        ("", {"data_parallel_size": 2, "local_engines_only": True}, ""),
        ("", {"nnodes": 2, "local_engines_only": True, "nnodes_within_dp": 1}, ""),
        ("", {"nnodes": 4, "local_engines_only": True, "nnodes_within_dp": 2}, "127.0.0.2"),
        ("", {"use_ray": True}, "127.0.0.5"),
        ("", {"data_parallel_backend": "ray"}, "127.0.0.5"),
        ("127.0.0.4", {"nnodes": 2}, "127.0.0.4"),
        ("127.0.0.4", {"use_ray": True}, "127.0.0.4"),
        ("localhost", {"nnodes": 2}, "127.0.0.1"),
    ],
)
def test_where_workers_on_other_hosts_report(
    named: str, parallel: dict[str, Any], host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VLLM_HOST_IP", "127.0.0.5")
    assert telemetry_host(named, config(**parallel)) == host


@pytest.mark.parametrize(
    ("host", "reason"),
    [("192.0.2.1", "Cannot assign"), ("0.0.0.0", "all addresses"), ("::", "all addresses"), ("no-such.invalid", "")],
)
def test_an_address_that_other_hosts_do_not_reach_is_refused(host: str, reason: str) -> None:
    with pytest.raises(ValueError, match=rf"--telemetry-host: cannot listen on {host} \(.*{reason}"):
        telemetry_host(host, config())


def test_a_short_telemetry_key_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TELEMETRY_KEY, "short")
    with pytest.raises(ValueError, match=TELEMETRY_KEY):
        telemetry_host("", config(nnodes=2))
