"""Ends the engine when its server is gone: killed with SIGKILL or for memory, a server cannot end it itself."""

from __future__ import annotations

import logging
import os
import select
import signal
import threading
from pathlib import Path

logger = logging.getLogger(__name__)

SERVER_PID = "FORKPOINT_SERVER_PID"
"""The environment variable that names the server's process to the engine's processes, which inherit it.

Ray copies it to other machines, where the number may be another process's: so it begins with the machine's boot.
"""
BOOT_ID, PID_NAMESPACE = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")


def name_server(pid: int) -> str:
    """The value of SERVER_PID for a process of this machine."""
    return f"{_numbering()}/{pid}"


def _numbering() -> str:
    """Which processes have numbers in common: those of one boot and one namespace. Empty where it is unknown."""
    try:
        return f"{BOOT_ID.read_text().strip()}/{PID_NAMESPACE.readlink()}"
    except OSError:
        return ""


def end_with_server() -> None:
    """Watch the server from this process, the engine or one of its workers, and end when it is gone.

    vLLM's engine would wait for requests forever, and keep the GPU's memory; it ends when one of its workers does.
    Nothing happens where no server is named, in the server's own process, and on other machines.
    """
    numbering, _, number = os.environ.get(SERVER_PID, "").rpartition("/")
    pid = int(number or 0)
    if pid in (0, os.getpid()) or numbering != _numbering():
        return
    try:
        server = os.pidfd_open(pid)
    except (AttributeError, OSError) as error:  # not Linux; or another machine's process
        logger.info("cannot watch the server's process %d (%s): if it is killed, this one stays", pid, error)
        return
    threading.Thread(target=_wait, args=(server,), name="forkpoint-orphan", daemon=True).start()


def _wait(server: int) -> None:
    """End this process once the server's has ended, which makes its descriptor readable."""
    poll = select.poll()
    poll.register(server, select.POLLIN)
    poll.poll()
    logger.warning("the server is gone: ending its engine")
    os.kill(os.getpid(), signal.SIGKILL)  # on SIGTERM a worker can take ten seconds and more
