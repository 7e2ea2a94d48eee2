"""Workers that Ray starts compare themselves with the server before any of them loads the model.

They start with the server's engine, so the server cannot wait for them first: it listens beside. vLLM makes each
worker just before that one loads the model, and no worker loads it before all are made. One that cannot work with this
server says so and fails; then the engine fails, and `RayWorkers.problem` has the reason for the server's last line.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from forkpoint_policies.worker.meeting import ANSWER_SECONDS, MEETING, family, greet, greeting
from forkpoint_server.telemetry_host import uses_ray

if TYPE_CHECKING:
    from .vllm_seam import VllmConfig

logger = logging.getLogger(__name__)

COPIED = "VLLM_RAY_EXTRA_ENV_VARS_TO_COPY"
"""vLLM's variable with the names that its older Ray executor copies to the workers; the newer one copies all."""
POLL_SECONDS = 1.0


class RayWorkers:
    """Listens at `host`, an address in digits, until `expected` workers were there. Raises OSError where it cannot."""

    def __init__(self, host: str, expected: int) -> None:
        self._expected = expected
        self._listener = socket.create_server((host, 0), family=family(host))
        self.address = f"{host}:{self._listener.getsockname()[1]}"
        """HOST:PORT, which the workers find in MEETING."""
        self._arrived: set[int] = set()
        self._problem = ""
        threading.Thread(target=self._listen, name="forkpoint-ray-workers", daemon=True).start()

    def problem(self) -> str:
        """Why a worker cannot work with this server, in one line; empty if none said so."""
        arrived = len(self._arrived)
        if self._problem or not 0 < arrived < self._expected:
            return self._problem
        return (
            f"{self._expected - arrived} of {self._expected} workers did not come to {self.address} before the model "
            "was loaded; install the same Forkpoint on their machines, and name in --telemetry-host an address of this "
            "one that they reach"
        )

    def _listen(self) -> None:
        with self._listener as listener:
            listener.settimeout(POLL_SECONDS)
            while len(self._arrived) < self._expected:
                with suppress(TimeoutError):
                    connection, _ = listener.accept()
                    threading.Thread(target=self._greet, args=(connection,), daemon=True).start()

    def _greet(self, connection: socket.socket) -> None:
        """One worker, or somebody else, who may say nothing: so each has a thread."""
        with connection, suppress(OSError, ValueError, KeyError, TypeError):
            connection.settimeout(ANSWER_SECONDS)
            answer = greet(connection, greeting(None))
            self._problem = self._problem or answer.problem
            self._arrived.add(answer.rank)


def await_ray_workers(config: VllmConfig, worker_extension: str, host: str) -> RayWorkers | None:
    """Await the workers at `host`, where the server takes records; None where Ray starts none.

    Workers with another extension than Forkpoint's do not come, and nobody would answer those that are added later
    (--enable-elastic-ep): both are not awaited. Raises OSError.
    """
    from .engine.hidden_states import is_own_extension

    parallel = config.parallel_config
    if not host or not uses_ray(config) or parallel.enable_elastic_ep or not is_own_extension(worker_extension):
        return None
    of_others = parallel.data_parallel_backend == "ray" and not parallel.local_engines_only
    engines = parallel.data_parallel_size if of_others else parallel.data_parallel_size_local
    workers = RayWorkers(host, engines * parallel.world_size)
    os.environ[MEETING] = workers.address
    os.environ[COPIED] = ",".join(filter(None, [os.environ.get(COPIED, ""), MEETING]))
    logger.info("workers under Ray are compared with this server at %s", workers.address)
    return workers
