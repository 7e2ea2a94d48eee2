"""The nodes of a model on several hosts compare themselves before any of them loads it.

They meet where vLLM itself makes them meet a moment later: at the first node's --master-port, or with data parallelism
at its --data-parallel-rpc-port. So no other port has to be open, and no node needs an argument of ours. The first node
says which Forkpoint it runs and where it takes records; each of the others answers whether it can work with that. All
go on together, after the port is free again for vLLM. With `--nnodes` and data parallelism, vLLM's ranks meet at
--master-port too, also where each rank has a server of its own.
"""

from __future__ import annotations

import logging
import socket
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from forkpoint_policies.worker.meeting import (
    ANSWER_SECONDS,
    ROUTE_SECONDS,
    family,
    greet,
    greeting,
    receive,
    reply,
    send,
)
from forkpoint_server.traces.remote_socket import own_address

if TYPE_CHECKING:
    from .vllm_seam import VllmConfig

logger = logging.getLogger(__name__)

JOIN_SECONDS = 600.0
"""How long a node looks for the first one, which may have to fetch the model's configuration."""
RETRY_SECONDS, REMIND_SECONDS = 0.5, 60.0


@dataclass(frozen=True)
class Meeting:
    """Where the nodes meet, how many `others` the first one waits for, and what this node brings of them.

    Without `--nnodes` the others are counted in data-parallel ranks, of which a node may have several, and otherwise in
    nodes.
    """

    host: str
    port: int
    others: int
    rank: int
    count: int


@dataclass(frozen=True)
class _Node:
    connection: socket.socket
    count: int


def meeting_of(config: VllmConfig) -> Meeting | None:
    """The meeting of this model's nodes; None where all its processes are on this host, or Ray starts the others.

    For those see `ray_workers`.
    """
    parallel = config.parallel_config
    size, local = parallel.data_parallel_size, parallel.data_parallel_size_local
    if parallel.nnodes > 1:
        return Meeting(parallel.master_addr, parallel.master_port, parallel.nnodes - 1, parallel.node_rank, 1)
    if parallel.data_parallel_backend != "mp" or parallel.local_engines_only or local >= size:
        return None
    host, port = parallel.data_parallel_master_ip, parallel.data_parallel_rpc_port
    return Meeting(host, port, size - local, parallel.data_parallel_rank, local)


def await_others(meeting: Meeting, telemetry_host: str) -> None:
    """Wait, on the first node, until all others are there and can work with it.

    `telemetry_host` is where it takes their records; empty where none of them sends any, as each has its own server.

    Raises ValueError, in one line, with what the first of them says that cannot, and OSError for a port that is taken.
    """
    with ExitStack() as stack:
        listener = stack.enter_context(_listener(meeting))
        telemetry: tuple[str, int] | None = None
        if telemetry_host:
            records = stack.enter_context(socket.create_server((telemetry_host, 0), family=family(telemetry_host)))
            telemetry = telemetry_host, records.getsockname()[1]
        said = greeting(telemetry)
        logger.info("waiting for the other nodes at %s:%d", meeting.host, meeting.port)
        listener.settimeout(REMIND_SECONDS)
        nodes: dict[int, _Node] = {}
        problem = ""
        while not problem:
            nodes = {rank: node for rank, node in nodes.items() if _is_open(node.connection)}
            missing = meeting.others - sum(node.count for node in nodes.values())
            if missing <= 0:
                break
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                logger.info("still waiting for %d at %s:%d", missing, meeting.host, meeting.port)
                continue
            stack.enter_context(connection)
            connection.settimeout(ANSWER_SECONDS)
            with suppress(OSError, ValueError, KeyError, TypeError):  # not a node: a scanner of ports, say
                answer = greet(connection, said)
                problem = answer.problem
                nodes[answer.rank] = _Node(connection, answer.count)
        listener.close()
        for node in nodes.values():
            with suppress(OSError):  # vLLM waits for a node that has ended meanwhile
                send(node.connection, {"problem": problem})
    if problem:
        raise ValueError(problem)


def join(meeting: Meeting, seconds: float = JOIN_SECONDS) -> None:
    """Go, on another node, to the first one; return when all nodes are there and can work with each other.

    Raises ValueError, in one line, for a first node that does not answer within `seconds`, or with which a node cannot
    work.
    """
    connection, said = _first_node(meeting, seconds)
    with connection:
        try:
            problem = reply(connection, said, meeting.rank, meeting.count)
            if not problem:
                connection.settimeout(None)
                problem = str(receive(connection)["problem"])
        except OSError as error:
            raise ValueError(
                f"the first node, at {meeting.host}:{meeting.port}, ended before the model was loaded ({error}); see "
                "its log"
            ) from error
    if problem:
        raise ValueError(problem)


def _first_node(meeting: Meeting, seconds: float) -> tuple[socket.socket, dict[str, Any]]:
    """A connection to the first node, and what it says. Raises ValueError."""
    until, reminded = time.monotonic() + seconds, 0.0
    while True:
        try:
            connection = socket.create_connection((meeting.host, meeting.port), ROUTE_SECONDS)
            try:
                connection.settimeout(ANSWER_SECONDS)
                said = receive(connection)
                if {"version", "channel", "telemetry"} <= said.keys():
                    return connection, said
                raise ValueError("another program listens there")
            except BaseException:
                connection.close()
                raise
        except (OSError, ValueError) as error:
            problem = f"no first node answers at {meeting.host}:{meeting.port} ({error})"
        now = time.monotonic()
        if now > until:
            raise ValueError(
                f"{problem}; start `forkpoint serve` there, and check the route from {socket.gethostname()}, "
                "--master-addr or --data-parallel-address, and that both run the same version"
            )
        if now - reminded > REMIND_SECONDS:
            reminded = now
            logger.info("waiting for the first node: %s", problem)
        time.sleep(RETRY_SECONDS)


def _listener(meeting: Meeting) -> socket.socket:
    """Listen at that address, or at all of this machine where it is a name that leads here by way of another one."""
    try:
        host = own_address(meeting.host)
    except (OSError, ValueError):
        host = ""
    try:
        return socket.create_server((host, meeting.port), family=family(host))
    except OSError as error:
        raise OSError(
            f"the other nodes cannot be awaited at {meeting.host}:{meeting.port} ({error}); name a free port in "
            "--master-port or --data-parallel-rpc-port, on all nodes"
        ) from error


def _is_open(connection: socket.socket) -> bool:
    """Whether the other end, which sends nothing more, has not ended."""
    connection.setblocking(False)
    try:
        return bool(connection.recv(1))
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        connection.settimeout(ANSWER_SECONDS)
