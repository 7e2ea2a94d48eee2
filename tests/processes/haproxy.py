"""A real HAProxy in front of servers that come and go."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from .forkpoint_server import Server, free_port
from .unpacked import service

SLOTS = 4
START_SECONDS = 30
CONFIGURATION = """\
global
  stats socket {socket} level admin
defaults
  mode http
  timeout connect 2s
  timeout client 120s
  timeout server 120s
  retries 3
  option redispatch
  retry-on conn-failure
frontend clients
  bind 127.0.0.1:{port}
  default_backend servers
backend servers
  balance roundrobin
  option httpchk GET /health
  default-server check inter 500ms fall 2 rise 1 on-marked-down shutdown-sessions
  server-template slot {slots} 127.0.0.1:1 disabled
"""


@dataclass
class Router:
    """A running HAProxy."""

    url: str
    socket: Path
    process: subprocess.Popen[bytes]
    _slots: dict[str, str] = field(default_factory=dict)  # by the server's URL

    def add(self, server: Server) -> None:
        """Send requests to this server as soon as it is healthy."""
        slot = f"servers/slot{len(self._slots) + 1}"
        self._slots[server.url] = slot
        self._say(f"set server {slot} addr 127.0.0.1 port {server.url.rpartition(':')[2]}")
        self._say(f"set server {slot} state ready")

    def drain(self, server: Server) -> None:
        """Send it no more requests: those that run end."""
        self._say(f"set server {self._slots[server.url]} state drain")

    def _say(self, command: str) -> str:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(self.socket))
            connection.sendall(f"{command}\n".encode())
            return connection.makefile().read()


@contextmanager
def routing(folder: Path) -> Iterator[Router]:
    """A HAProxy without servers, until the block ends."""
    binary, variables = service("haproxy")
    port, admin = free_port(), folder / "haproxy.sock"
    configuration = folder / "haproxy.cfg"
    configuration.write_text(CONFIGURATION.format(socket=admin, port=port, slots=SLOTS))
    with (folder / "haproxy.log").open("wb") as log:
        process = subprocess.Popen(
            [binary, "-db", "-f", str(configuration)], stdout=log, stderr=log, env={**os.environ, **variables}
        )
    try:
        deadline = time.monotonic() + START_SECONDS
        while not admin.exists():
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"HAProxy did not start:\n{(folder / 'haproxy.log').read_text()[-4000:]}")
            time.sleep(0.05)
        yield Router(f"http://127.0.0.1:{port}", admin, process)
    finally:
        process.terminate()
        process.wait(30)
