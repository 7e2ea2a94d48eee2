"""Where a server receives records: a socket on its own host, and an encrypted one for workers on other hosts.

On other hosts CurveZMQ encrypts the records. The server proves its key to the worker, and accepts the worker's key
only, so that a stranger can neither read nor send them. Both pairs are new at each start, and the worker's is handed
over with each request, like everything else that vLLM sends to its workers. With the environment variable
TELEMETRY_KEY, set alike on all hosts, they are derived from it, and no secret travels.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import msgspec
import zmq
from zmq.utils import z85

TELEMETRY_KEY = "FORKPOINT_TELEMETRY_KEY"
MIN_KEY_LENGTH = 16
HEARTBEAT_MS, HEARTBEAT_TIMEOUT_MS = 2_000, 6_000
RECONNECT_MS, MAX_RECONNECT_MS = 100, 5_000
IPC = "ipc://"


@dataclass(frozen=True)
class KeyPair:
    """A CurveZMQ key pair in Z85, 40 characters each."""

    public: str
    secret: str

    @staticmethod
    def new() -> KeyPair:
        public, secret = zmq.curve_keypair()
        return KeyPair(public.decode(), secret.decode())

    @staticmethod
    def derived(key: str, owner: str) -> KeyPair:
        """The owner's pair of a cluster with this key."""
        digest = hashlib.blake2b(owner.encode(), key=hashlib.sha256(key.encode()).digest(), digest_size=32).digest()
        secret = z85.encode(digest)
        return KeyPair(zmq.curve_public(secret).decode(), secret.decode())


@dataclass(frozen=True)
class ChannelKeys:
    """The pairs of a server and of its workers."""

    server: KeyPair
    worker: KeyPair

    @staticmethod
    def of_cluster() -> ChannelKeys | None:
        """Those derived from TELEMETRY_KEY; None where it is not set. Raises ValueError for one that is too short."""
        key = os.environ.get(TELEMETRY_KEY, "")
        if not key:
            return None
        if len(key) < MIN_KEY_LENGTH:
            raise ValueError(f"{TELEMETRY_KEY}: has {len(key)} characters, must have at least {MIN_KEY_LENGTH}")
        return ChannelKeys(KeyPair.derived(key, "server"), KeyPair.derived(key, "worker"))

    @staticmethod
    def new() -> ChannelKeys:
        return ChannelKeys(KeyPair.new(), KeyPair.new())


class Endpoint(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a request carries: the local address, the address for other hosts, and the keys of the latter.

    The keys are empty where the cluster has one of its own.
    """

    local: str
    remote: str = ""
    server_public: str = ""
    worker_public: str = ""
    worker_secret: str = ""

    def encode(self) -> str:
        """As one string; a local address alone is itself."""
        return msgspec.json.encode(self).decode() if self.remote else self.local

    @staticmethod
    def decode(text: str) -> Endpoint:
        """Read such a string. Raises ValueError when it is not one."""
        return msgspec.json.decode(text, type=Endpoint) if text.startswith("{") else Endpoint(text)

    @property
    def is_remote(self) -> bool:
        """Whether this process must use the address for other hosts: the server's socket is not in its file system."""
        return bool(self.remote) and not (self.local.startswith(IPC) and Path(self.local[len(IPC) :]).exists())

    def connect(self, socket: zmq.Socket[bytes]) -> None:
        """Connect a socket to the server. It reconnects when the network is back."""
        if not self.is_remote:
            socket.connect(self.local)
            return
        keys = ChannelKeys.of_cluster()
        socket.curve_serverkey = (keys.server.public if keys else self.server_public).encode()
        socket.curve_publickey = (keys.worker.public if keys else self.worker_public).encode()
        socket.curve_secretkey = (keys.worker.secret if keys else self.worker_secret).encode()
        socket.setsockopt(zmq.IPV6, 1)
        socket.setsockopt(zmq.HEARTBEAT_IVL, HEARTBEAT_MS)
        socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, HEARTBEAT_TIMEOUT_MS)
        socket.setsockopt(zmq.RECONNECT_IVL, RECONNECT_MS)
        socket.setsockopt(zmq.RECONNECT_IVL_MAX, MAX_RECONNECT_MS)
        socket.connect(self.remote)
