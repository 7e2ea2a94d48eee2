"""How many requests of experiments a database records a second: `python -m benchmarks.rows [--database-url URL]`.

They are written as the server's recorder does, in transactions of 500. Without a URL, into a SQLite file of its own; a
database that is named gets an experiment for this, which is removed afterwards.
"""

from __future__ import annotations

import argparse
import secrets
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from sqlalchemy import Engine

from forkpoint_server.store.assignments import add_assignments
from forkpoint_server.store.database import open_database
from forkpoint_server.store.definitions import EpochArm, Interval, StoredArm, StoredDefinition
from forkpoint_server.store.experiments import add_experiment, remove_experiment
from forkpoint_server.store.recorder import ROWS_PER_BATCH

from .tables import Listing

NAME = "benchmark-of-rows"
ARM = "control"
MAX_EXPERIMENTS = 1_000


@contextmanager
def _experiment(database: Engine) -> Iterator[int]:
    """The number of an experiment that ends with the block."""
    definition = StoredDefinition(salt=NAME, control=ARM, arms=(StoredArm(name=ARM),))
    arms = {ARM: EpochArm(status="running", intervals=(Interval(0.0, 1.0, 0),))}
    stored = add_experiment(database, NAME, definition, "stopped", arms, MAX_EXPERIMENTS)
    try:
        yield stored.id
    finally:
        remove_experiment(database, NAME, lambda _: None)


def rows(database: Engine, seconds: float) -> Listing:
    """Write for so long."""
    written, numbers = 0, count()
    with _experiment(database) as experiment:
        cpu, wall = time.process_time(), time.monotonic()
        while time.monotonic() < wall + seconds:
            batch = [_row(experiment, next(numbers)) for _ in range(ROWS_PER_BATCH)]
            left_out = add_assignments(database, batch)
            assert not left_out, "no request is there twice"
            written += len(batch)
        cpu, wall = time.process_time() - cpu, time.monotonic() - wall
    return Listing(
        "rows",
        f"requests of experiments into {database.dialect.name}, {ROWS_PER_BATCH} in a transaction",
        ("rows a second", "CPU µs a row", "cores"),
        [(f"{written / wall:,.0f}", f"{cpu * 1e6 / written:.0f}", f"{cpu / wall:.2f}")],
        ("CPU time of the process that writes, SQLite's in it; not of a database's own process.",),
    )


def _row(experiment: int, number: int) -> dict[str, Any]:
    return {
        "experiment": experiment, "request_id": f"cmpl-{number:032x}", "server": "benchmark", "arm": ARM,
        "unit": number, "epoch": 0, "stratum": 0, "created": time.time(), "prompt_tokens": 100, "tokens": 500,
        "reasoning_tokens": 400, "latency_seconds": 10.0, "finish_reason": "stop", "error": 0, "truncated": 0,
        "mean_entropy": 0.5, "mean_entropy_forks": 1.0, "mean_entropy_execution": 0.1, "forks": 100, "triggered": 1,
        "response_id": f"chatcmpl-{number:032x}", "attempt": secrets.token_hex(8), "effect": 1.5,
    }  # fmt: skip


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rows", description=__doc__)
    parser.add_argument("--database-url", metavar="URL", help="a file of its own, if none is named")
    parser.add_argument("--seconds", type=float, default=10.0, help="how long to write (%(default)s)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        database = open_database(args.database_url or f"sqlite:///{Path(folder) / 'rows.sqlite3'}")
        try:
            print(rows(database, args.seconds).markdown())
        finally:
            database.dispose()


if __name__ == "__main__":
    main()
