"""The thread that writes the rows of requests. It never makes a request wait or fail."""

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
from .tables import DAY_SECONDS

logger = logging.getLogger(__name__)

MAX_WAITING = 10_000
ROWS_PER_BATCH = 500
POLL_SECONDS = 0.2
"""How long the writer waits for a first row before it checks whether it should stop or purge."""
BACKOFF_SECONDS = (0.1, 15.0)
"""How long the writer waits after a failure: at first, and at most."""
PURGE_SECONDS = 3600.0
MAX_JUMP_SECONDS = 3600.0
"""How far the clock may move against the monotonic one before nothing is deleted for its age any more."""

SERVER = secrets.token_hex(6)
"""Distinguishes the rows of this server from those of others."""


class Recorder:
    """A bounded queue and its writer. Rows that do not fit into the queue are dropped and counted."""

    def __init__(self, database: Engine, retention_days: int, max_waiting: int = MAX_WAITING) -> None:
        self._database = database
        self._retention_seconds = retention_days * DAY_SECONDS
        self._clock_offset = _clock_offset()
        self._queue: queue.Queue[dict[str, Any] | threading.Event] = queue.Queue(max_waiting)
        self._stopping = threading.Event()
        self._num_writing = 0  # rows taken from the queue and not yet written
        self._failure: str | None = None  # the error of the last attempt
        self._thread = threading.Thread(target=self._run, name="forkpoint-recorder", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, seconds: float = 10.0) -> None:
        """Write the waiting rows, as far as the database accepts them within this time."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(seconds)
        if self._thread.is_alive():
            logger.warning(
                "%d requests of experiments may not be recorded: the database did not accept them", self._num_unwritten
            )

    @property
    def _num_unwritten(self) -> int:
        return self._queue.qsize() + self._num_writing

    def warnings(self) -> list[str]:
        """Warnings for the server's users, one line each."""
        if self._failure is None:
            return []
        waiting = f"{self._num_unwritten} wait, and when {self._queue.maxsize} do, further ones are dropped"
        return [f"the database does not take what is recorded of experiments' requests ({self._failure}): {waiting}"]

    def put(self, row: dict[str, Any]) -> None:
        """Record a row soon. Never waits."""
        try:
            self._queue.put_nowait(row)
        except queue.Full:
            metrics.RECORDS_DROPPED.labels(metrics.served_model(), "full").inc()
        metrics.RECORDS_WAITING.labels(metrics.served_model()).set(self._num_unwritten)

    def flush(self, seconds: float) -> bool:
        """Wait until everything put so far is written; returns whether it is. Blocks: not for the event loop."""
        reached = threading.Event()
        try:
            self._queue.put(reached, timeout=seconds)
        except queue.Full:
            return False
        return reached.wait(seconds)

    def _run(self) -> None:
        purged_at = 0.0
        while not (self._stopping.is_set() and self._queue.empty()):
            batch = self._next_batch()
            self._num_writing = sum(isinstance(item, dict) for item in batch)
            self._write(batch)
            self._num_writing = 0
            metrics.RECORDS_WAITING.labels(metrics.served_model()).set(self._num_unwritten)
            if time.monotonic() - purged_at > PURGE_SECONDS or not purged_at:
                purged_at = time.monotonic()
                self._purge()

    def _next_batch(self) -> list[dict[str, Any] | threading.Event]:
        """The waiting rows and flushes, up to a batch; waits briefly for the first one."""
        batch = []
        try:
            batch.append(self._queue.get(timeout=POLL_SECONDS))
            while len(batch) < ROWS_PER_BATCH:
                batch.append(self._queue.get_nowait())
        except queue.Empty:
            pass
        return batch

    def _write(self, batch: list[dict[str, Any] | threading.Event]) -> None:
        """Write the rows of a batch, retrying for as long as the database fails, then set its events."""
        rows = [item for item in batch if isinstance(item, dict)]
        backoff = BACKOFF_SECONDS[0]
        while rows:
            try:
                left_out = add_assignments(self._database, rows)
            except (IntegrityError, DataError) as error:
                self._failure = None
                rows = self._split(rows, error)
            except Exception as error:  # noqa: BLE001  # recording resumes when the failure has passed, whichever it is
                if self._stopping.is_set():
                    metrics.RECORDS_DROPPED.labels(metrics.served_model(), "stopped").inc(len(rows))
                    logger.warning("%d requests of experiments were not recorded (%s)", len(rows), type(error).__name__)
                    break
                self._failure = type(error).__name__
                logger.warning("the store failed (%s); %d records wait %.1f s", self._failure, len(rows), backoff)
                self._stopping.wait(backoff)
                backoff = min(2 * backoff, BACKOFF_SECONDS[1])
            else:
                self._failure = None
                metrics.RECORDS_DROPPED.labels(metrics.served_model(), "duplicate").inc(left_out)
                break
        for item in batch:
            if isinstance(item, threading.Event):
                item.set()

    def _split(self, rows: list[dict[str, Any]], error: Exception) -> list[dict[str, Any]]:
        """Halve a batch that the database rejects: write the first half, return the second; drop a single row.

        The database rejects the rows of an experiment that was deleted meanwhile.
        """
        if len(rows) > 1:
            self._write(list(rows[: len(rows) // 2]))
            return rows[len(rows) // 2 :]
        metrics.RECORDS_DROPPED.labels(metrics.served_model(), "refused").inc()
        logger.info("a request of an experiment was not recorded (%s)", type(error).__name__)
        return []

    def _purge(self) -> None:
        """Delete what is older than the retention, unless the clock was set: recent rows would then look old."""
        if abs(_clock_offset() - self._clock_offset) > MAX_JUMP_SECONDS:
            logger.warning(
                "the clock was set since the server started; no old records are deleted until it is started again"
            )
            return
        try:
            remove_older(self._database, time.time() - self._retention_seconds)
        except Exception as error:  # noqa: BLE001  # the next purge tries again
            logger.warning("old records could not be deleted (%s)", type(error).__name__)


def _clock_offset() -> float:
    """Seconds by which the host's clock, which can be set, is ahead of the monotonic one."""
    return time.time() - time.monotonic()
