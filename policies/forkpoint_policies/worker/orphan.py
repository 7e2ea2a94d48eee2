"""Ends the engine when its server is gone: killed with SIGKILL or for memory, a server cannot end it itself."""

from __future__ import annotations

import logging
import os
import select
import signal
import threading

logger = logging.getLogger(__name__)

SERVER_PID = "FORKPOINT_SERVER_PID"
"""The environment variable that names the server's process to the engine's processes, which inherit it."""


def end_with_server() -> None:
    """Watch the server from this process, the engine or one of its workers, and end when it is gone.

    vLLM's engine would wait for requests forever, and keep the GPU's memory; it ends when one of its workers does.
    Nothing happens where no server is named, in the server's own process, and on other machines.
    """
    pid = int(os.environ.get(SERVER_PID) or 0)
    if pid in (0, os.getpid()):
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
