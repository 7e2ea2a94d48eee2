"""Which Forkpoint a process runs: a server refuses workers on other machines that run another one."""

from __future__ import annotations

import socket
from importlib.metadata import version

from .endpoint import TELEMETRY_KEY, ChannelKeys

DIFFERS = "Forkpoint differs on "
"""How the message of a worker that is another one begins. It holds no single quote: vLLM quotes it with those."""


def own_version() -> str:
    """The version of the installed package, which is what compiles and runs policies."""
    return version("forkpoint-policies")


def own_channel() -> str:
    """The public key that follows from the cluster's telemetry key; empty without one. Raises ValueError."""
    keys = ChannelKeys.of_cluster()
    return "" if keys is None else keys.worker.public


def difference(server_version: str, server_channel: str) -> str:
    """What is other in this process than in the server, and how to mend it; empty if nothing is."""
    here = f"{DIFFERS}{socket.gethostname()}: "
    if own_version() != server_version:
        return f"{here}version {own_version()} there, {server_version} on the server; install the same on all machines"
    channel = own_channel()
    if channel == server_channel:
        return ""
    problem = "is not the one of the server"
    if not channel:
        problem = "is set on the server and not there"
    elif not server_channel:
        problem = "is set there and not on the server"
    return f"{here}{TELEMETRY_KEY} {problem}; set the same on all machines, or on none"
