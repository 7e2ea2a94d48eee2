"""On which address a server listens for workers on other hosts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from forkpoint_policies.worker.endpoint import ChannelKeys
from forkpoint_server.traces.remote_socket import own_address

if TYPE_CHECKING:
    from .vllm_seam import VllmConfig


def telemetry_host(host: str, config: VllmConfig) -> str:
    """The address on which to listen for workers on other hosts, as digits; empty where there are none.

    `host` is what --telemetry-host names, or empty: then the address at which vLLM itself waits for its other hosts,
    and under Ray, where any worker may be on another host, this machine's as vLLM finds it.

    Raises ValueError for one on which this machine cannot listen, and for a key that cannot be used.
    """
    parallel = config.parallel_config
    if not host and parallel.nnodes > 1 and (not parallel.local_engines_only or parallel.nnodes_within_dp > 1):
        host = parallel.master_addr
    elif (
        not host and not parallel.local_engines_only and parallel.data_parallel_size_local < parallel.data_parallel_size
    ):
        host = parallel.data_parallel_master_ip
    elif not host and uses_ray(config):
        from .vllm_seam import get_ip

        host = get_ip()
    if not host:
        return ""
    ChannelKeys.of_cluster()
    try:
        return own_address(host)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"--telemetry-host: cannot listen on {host} ({error}); name an address of this machine that the other "
            "hosts reach"
        ) from error


def uses_ray(config: VllmConfig) -> bool:
    """Whether Ray starts the model's workers, or the engines that have them."""
    parallel = config.parallel_config
    return bool(parallel.use_ray) or parallel.data_parallel_backend == "ray"
