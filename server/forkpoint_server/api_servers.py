"""Several API servers in front of one engine, each a process of vLLM's own launcher: `--api-server-count`."""

from __future__ import annotations

import logging
import os
import secrets
import signal
import socket
import time
from argparse import Namespace
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from .replicas.address import Listening, named_port, replica_address

if TYPE_CHECKING:
    from .shutdown import Drain
    from .vllm_seam import VllmConfig

logger = logging.getLogger(__name__)

STOP_SECONDS = 25.0
"""How long an API server may take to end: responses, and then what is recorded of them, have ten seconds each."""
LOOPBACK, MAX_PORT = "127.0.0.1", (1 << 16) - 1


@dataclass(frozen=True)
class OwnPort:
    """Where the other servers of the database ask one API server alone, and the key with which they sign."""

    sock: socket.socket  # bound; the API server listens on it
    address: str
    key: str


@dataclass(frozen=True)
class ApiServer:
    """One of several API servers: the socket that all of them accept from, and its part of the engine's client.

    `ports` are those of all of them; empty for a model that generates nothing.
    """

    address: str
    sock: socket.socket
    client_config: dict[str, Any]
    drain: Drain
    ports: Sequence[OwnPort] = ()

    @property
    def number(self) -> int:
        return int(self.client_config["client_index"])

    @property
    def count(self) -> int:
        return int(self.client_config["client_count"])

    @property
    def engine_config(self) -> dict[str, Any]:
        """What the engine's client is built with."""
        return {name: value for name, value in self.client_config.items() if name != "api_server_loads"}

    @property
    def peer_loads(self) -> tuple[Any, int] | None:
        """The open connections of all of them, and which of these are its own; a new one goes to the least loaded."""
        loads = self.client_config.get("api_server_loads")
        return None if loads is None else (loads, self.number)

    @property
    def own_port(self) -> OwnPort | None:
        return self.ports[self.number] if self.ports else None

    @property
    def sibling_keys(self) -> frozenset[str]:
        """The keys by which it recognizes the others in the database."""
        return frozenset(port.key for number, port in enumerate(self.ports) if number != self.number)


def check_api_servers(args: Namespace) -> None:
    """Raise ValueError for what several API servers cannot do."""
    count = args.api_server_count or 0
    if args.headless and count:
        raise ValueError("--api-server-count: a --headless node serves no requests; name it on the first node only")
    if count < 0:
        raise ValueError(f"--api-server-count: must be 1 or more, not {count}")
    if count <= 1:
        return
    if args.enable_elastic_ep:
        raise ValueError("--api-server-count: --enable-elastic-ep works with one API server; leave one of the two out")
    if os.environ.get("VLLM_ALLOW_RUNTIME_LORA_UPDATING", "0").lower() in ("1", "true"):
        raise ValueError(
            "--api-server-count: an adapter that is loaded at run time would be known to one of them only; leave "
            "VLLM_ALLOW_RUNTIME_LORA_UPDATING out, or run one"
        )
    if args.uds and not args.replica_address:
        raise ValueError(
            "--api-server-count: with --uds, name in --replica-address where the API servers ask each other, "
            f"for example {LOOPBACK}"
        )


def share(limit: int, count: int) -> int:
    """The part of a server's limit that each of its processes has, at least 1 unless the limit is 0."""
    return limit if limit == 0 else max(limit // count, 1)


def bind_own_ports(args: Namespace, own_ip: Callable[[], str]) -> list[OwnPort]:
    """A port for each API server: free ones, or the one in `--replica-address` and those after it.

    `own_ip` is as in `replica_address`. Raises ValueError.
    """
    named, ports = named_port(args.replica_address), list[OwnPort]()
    host = args.host or ""
    for number in range(args.api_server_count):
        wanted = 0 if named is None else named + number
        try:
            if wanted > MAX_PORT:
                raise OSError(f"the highest port is {MAX_PORT}")
            sock = socket.create_server(
                (host, wanted), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=1
            )
        except OSError as error:
            for port in ports:
                port.sock.close()
            raise ValueError(
                f"--replica-address: port {wanted} cannot be listened on ({error}); each of the "
                f"{args.api_server_count} API servers takes one, from the port named on"
            ) from None
        port = sock.getsockname()[1]
        listening = Listening(args.host, port, None, tls=args.ssl_certfile is not None)
        address = replica_address(args.replica_address, listening, own_ip, port)
        if address is None:
            logger.warning("other servers of the database cannot ask these for traces; set --replica-address")
            address = f"{'https' if listening.tls else 'http'}://{LOOPBACK}:{port}"
        ports.append(OwnPort(sock, address, secrets.token_hex(32)))
    return ports


def run_api_servers(
    args: Namespace, config: VllmConfig, serve_one: Callable[..., None], ports: Sequence[OwnPort]
) -> None:
    """Start the engine and `args.api_server_count` processes that run `serve_one`; wait until interrupted.

    `serve_one` is a module's function, called with the ports, the drain, the address, the socket, `args` and the
    client's configuration. Raises RuntimeError where one of the processes failed; then all end.
    """
    from .shutdown import LEAST_SECONDS, drain_of_several
    from .vllm_seam import (
        APIServerProcessManager,
        Executor,
        bind_engine_zmq_listeners,
        launch_core_engines,
        setup_multiprocess_prometheus,
        setup_server,
        wait_for_completion_or_failure,
    )

    count = args.api_server_count
    setup_multiprocess_prometheus()
    address, sock = setup_server(args, reuse_port=True)
    listeners = bind_engine_zmq_listeners(config, count)
    drain = drain_of_several(count)
    servers, engines, coordinator = None, None, None
    drain_seconds = None  # vLLM's own few, unless all ends in order
    try:
        with launch_core_engines(
            config, Executor.get_class(config), not args.disable_log_stats, listeners.addresses
        ) as launched:
            engines, coordinator = launched.engine_manager, launched.coordinator
            servers = APIServerProcessManager(
                listen_address=address,
                sock=sock,
                args=args,
                num_servers=count,
                input_listeners=listeners.inputs,
                output_listeners=listeners.outputs,
                target_server_fn=partial(serve_one, ports, drain),
                stats_update_address=None if coordinator is None else coordinator.get_stats_publish_address(),
                tensor_queue=launched.tensor_queue,
            )
            for port in ports:
                port.sock.close()  # the processes have their own descriptors
            launched.watched_frontend_processes = servers.processes
        with suppress(SystemExit):  # of SIGTERM
            wait_for_completion_or_failure(api_server_manager=servers, engine_manager=engines, coordinator=coordinator)
        drain_seconds = config.shutdown_timeout
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once is enough
        # The requests first, then the engine, as under one API server; their answers are still sent meanwhile.
        started_at = time.monotonic()
        left = drain.finish(drain_seconds or 0.0)
        if engines is not None:
            engines.shutdown(timeout=max(left, LEAST_SECONDS) if drain_seconds else drain_seconds)
        if servers is not None:
            servers.shutdown(timeout=STOP_SECONDS)
        if coordinator is not None:
            coordinator.shutdown(timeout=None)
        logger.info("the API servers and the engine have ended within %.1f s", time.monotonic() - started_at)
        sock.close()
