"""The one thread that writes what is recorded of requests. It never makes a request wait or fail."""

from __future__ import annotations

import logging
import queue
import secrets
import threading
import time
from typing import Any

from sqlalchemy import Engine
from sqlalchemy.exc import DataError, IntegrityError

from forkpoint_server import metrics

from .assignments import add_assignments, remove_older

logger = logging.getLogger(__name__)

MAX_WAITING = 10_000
BATCH = 500
PATIENCE_SECONDS = (0.1, 15.0)
"""How long a store that fails is left alone: at first, and at most."""
PURGE_SECONDS = 3600.0
MAX_JUMP_SECONDS = 3600.0
DAY_SECONDS = 86_400.0


class Recorder:
    """A bounded queue and its writer. What does not fit into the queue is dropped and counted."""

    def __init__(self, database: Engine, retention_days: int, most_waiting: int = MAX_WAITING) -> None:
        self._database = database
        self._retention_seconds = retention_days * DAY_SECONDS
        self._offset = _clock_offset()
        self._waiting: queue.Queue[dict[str, Any] | threading.Event] = queue.Queue(most_waiting)
        self._stopping = threading.Event()
        self._writing = 0  # rows in the writer's hands
        self._failed: str | None = None  # why the last attempt did
        self._thread = threading.Thread(target=self._run, name="forkpoint-recorder", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, seconds: float = 10.0) -> None:
        """Write what waits, as far as the database takes it in this time."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(seconds)
        if self._thread.is_alive():
            logger.warning(
                "%d requests of experiments may not be recorded: the database did not take them", self._unwritten
            )

    @property
    def _unwritten(self) -> int:
        return self._waiting.qsize() + self._writing

    def warnings(self) -> list[str]:
        """What a user should know of it."""
        if self._failed is None:
            return []
        waiting = f"{self._unwritten} wait, and when {self._waiting.maxsize} do, further ones are dropped"
        return [f"the database does not take what is recorded of experiments' requests ({self._failed}): {waiting}"]

    def put(self, row: dict[str, Any]) -> None:
        """Record a row soon. Never waits."""
        try:
            self._waiting.put_nowait(row)
        except queue.Full:
            metrics.RECORDS_DROPPED.labels("full").inc()
        metrics.RECORDS_WAITING.set(self._unwritten)

    def flush(self, seconds: float) -> bool:
        """Wait until all that was put before is written; whether it is. Not for the event loop."""
        reached = threading.Event()
        try:
            self._waiting.put(reached, timeout=seconds)
        except queue.Full:
            return False
        return reached.wait(seconds)

    def _run(self) -> None:
        purged = 0.0
        while not (self._stopping.is_set() and self._waiting.empty()):
            taken = self._taken()
            self._writing = sum(isinstance(one, dict) for one in taken)
            self._write(taken)
            self._writing = 0
            metrics.RECORDS_WAITING.set(self._unwritten)
            if time.monotonic() - purged > PURGE_SECONDS or not purged:
                purged = time.monotonic()
                self._purge()

    def _taken(self) -> list[dict[str, Any] | threading.Event]:
        """What waits, up to a batch; it waits for a first one, not for long."""
        taken = []
        try:
            taken.append(self._waiting.get(timeout=0.2))
            while len(taken) < BATCH:
                taken.append(self._waiting.get_nowait())
        except queue.Empty:
            pass
        return taken

    def _write(self, taken: list[dict[str, Any] | threading.Event]) -> None:
        rows = [one for one in taken if isinstance(one, dict)]
        patience = PATIENCE_SECONDS[0]
        while rows:
            try:
                written = add_assignments(self._database, rows)
            except (IntegrityError, DataError) as error:
                self._failed = None
                rows = self._apart(rows, error)
            except Exception as error:  # noqa: BLE001  # whatever it is, recording goes on when it has passed
                if self._stopping.is_set():
                    metrics.RECORDS_DROPPED.labels("stopped").inc(len(rows))
                    logger.warning("%d requests of experiments were not recorded (%s)", len(rows), type(error).__name__)
                    break
                self._failed = type(error).__name__
                logger.warning(
                    "the store failed (%s); %d records wait %.1f s", type(error).__name__, len(rows), patience
                )
                self._stopping.wait(patience)
                patience = min(2 * patience, PATIENCE_SECONDS[1])
            else:
                self._failed = None
                metrics.RECORDS_DROPPED.labels("duplicate").inc(len(rows) - written)
                break
        for one in taken:
            if isinstance(one, threading.Event):
                one.set()

    def _apart(self, rows: list[dict[str, Any]], error: Exception) -> list[dict[str, Any]]:
        """Of a batch that the database refuses, the half to go on with; a single row that it refuses is dropped.

        It does so when the experiment was deleted meanwhile.
        """
        if len(rows) > 1:
            self._write(list(rows[: len(rows) // 2]))
            return rows[len(rows) // 2 :]
        metrics.RECORDS_DROPPED.labels("refused").inc()
        logger.info("a request of an experiment was not recorded (%s)", type(error).__name__)
        return []

    def _purge(self) -> None:
        if abs(_clock_offset() - self._offset) > MAX_JUMP_SECONDS:  # what is old by it may be of today
            logger.warning(
                "the clock was set since the server started; no old records are deleted until it is started again"
            )
            return
        try:
            remove_older(self._database, time.time() - self._retention_seconds)
        except Exception as error:  # noqa: BLE001  # it is tried again
            logger.warning("old records could not be deleted (%s)", type(error).__name__)


def _clock_offset() -> float:
    """By how many seconds the host's clock is before the one that nobody sets."""
    return time.time() - time.monotonic()


SERVER = secrets.token_hex(6)
"""Tells the rows of this server from those of others."""
