"""The encrypted socket on which workers of other hosts report: only those with the worker's key are accepted."""

from __future__ import annotations

import ipaddress
import logging
import socket as sockets

import zmq
import zmq.asyncio
from zmq.auth.asyncio import AsyncioAuthenticator

from forkpoint_policies.worker.endpoint import (
    HEARTBEAT_MS,
    HEARTBEAT_TIMEOUT_MS,
    ChannelKeys,
    Endpoint,
)
from forkpoint_policies.worker.records import MAX_MESSAGES_WAITING

logger = logging.getLogger(__name__)

MAX_MESSAGE_BYTES = 64 << 20


class RemoteSocket:
    """Listens on `host`, an address of this machine that the other hosts reach (`own_address`), at a free port."""

    def __init__(self, host: str) -> None:
        self._is_ipv6 = ":" in host
        self._host = f"[{host}]" if self._is_ipv6 else host
        cluster = ChannelKeys.of_cluster()
        self._keys, self._hands_over = cluster or ChannelKeys.new(), cluster is None
        self._context = zmq.asyncio.Context()  # its own: the authenticator is about all sockets of a context
        self._authenticator = AsyncioAuthenticator(self._context)

    def start(self) -> zmq.asyncio.Socket:
        """Listen. Raises zmq.ZMQError where that is not possible."""
        self._authenticator.start()
        self._authenticator.configure_curve_callback("*", credentials_provider=self)
        socket: zmq.asyncio.Socket = self._context.socket(zmq.PULL)
        socket.setsockopt(zmq.RCVHWM, MAX_MESSAGES_WAITING)
        socket.setsockopt(zmq.MAXMSGSIZE, MAX_MESSAGE_BYTES)
        socket.setsockopt(zmq.IPV6, self._is_ipv6)
        socket.setsockopt(zmq.HEARTBEAT_IVL, HEARTBEAT_MS)
        socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, HEARTBEAT_TIMEOUT_MS)
        socket.curve_server = True
        socket.curve_secretkey = self._keys.server.secret.encode()
        socket.bind(f"tcp://{self._host}:*")
        self._address = socket.getsockopt_string(zmq.LAST_ENDPOINT)
        logger.info("workers on other hosts send their records to %s", self._address)
        return socket

    def callback(self, _domain: str, key: bytes) -> bool:
        """Whether a client with this public key may send: called by the authenticator."""
        return key == self._keys.worker.public.encode()

    def endpoint(self, local: str) -> Endpoint:
        """What requests carry, with the address for workers on this host."""
        if not self._hands_over:
            return Endpoint(local, self._address)
        keys = self._keys
        return Endpoint(local, self._address, keys.server.public, keys.worker.public, keys.worker.secret)

    def stop(self) -> None:
        """Release everything; the socket too."""
        self._authenticator.stop()
        self._context.destroy(linger=0)


def own_address(host: str) -> str:
    """The address of this machine with that name, as digits: what a socket can listen on.

    Raises OSError where this machine cannot listen on it, and ValueError for one that other hosts cannot reach.
    """
    family, kind, protocol, _, address = sockets.getaddrinfo(host, 0, type=sockets.SOCK_STREAM)[0]
    with sockets.socket(family, kind, protocol) as one:
        one.bind(address)
    digits = str(address[0])
    if ipaddress.ip_address(digits).is_unspecified:
        raise ValueError(f"{host} means all addresses of this machine")
    return digits
