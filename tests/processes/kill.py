"""A process that records requests and posts their outcomes, as a server does, to be killed with kill -9 at any moment.

`python -m tests.processes.kill URL RUNS SEED` does so RUNS times, and prints each acknowledged outcome, one a line.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from sqlalchemy import Engine

from forkpoint_server.store.database import open_database
from forkpoint_server.store.experiments import read_definitions
from forkpoint_server.store.outcomes import Outcome, UnknownRequestError, add_outcomes
from forkpoint_server.store.recorder import Recorder
from tests.unit.server.store.rows import row

BATCH = 5
MAX_SECONDS = 0.25


def main(url: str, runs: int, seed: int) -> None:
    """Fork a server, kill it, and go on with the next one on the same database."""
    chance = random.Random(seed)
    for run in range(runs):
        reading, writing = os.pipe()
        child = os.fork()
        if not child:
            os.close(reading)
            _serve(url, f"run{run}", writing)
        os.close(writing)
        acknowledged = _read(reading)
        if run % 2:  # the others are killed while they start
            print(next(acknowledged))
        time.sleep(chance.uniform(0, MAX_SECONDS))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        for line in acknowledged:
            print(line)
        os.close(reading)


def _read(pipe: int) -> Iterator[str]:
    """The whole lines; what a killed process was writing does not count."""
    left = b""
    while part := os.read(pipe, 65536):
        *lines, left = (left + part).split(b"\n")
        yield from (line.decode() for line in lines)


def _serve(url: str, run: str, writing: int) -> NoReturn:
    """Record requests and acknowledge their outcomes, until killed."""
    database = open_database(url)
    experiment = read_definitions(database).experiments[0].id
    recorder = Recorder(database, 90)
    recorder.start()
    number = 0
    while True:
        names = [f"{run}-{number + place}" for place in range(BATCH)]
        for name in names:
            recorder.put(row(experiment, name))
        outcomes = [Outcome(name, "correct", float(place)) for place, name in enumerate(names)]
        while not _posted(database, experiment, outcomes):
            recorder.flush(0.1)
        os.write(writing, "".join(f"{one.request_id} {one.value:g}\n" for one in outcomes).encode())
        number += BATCH


def _posted(database: Engine, experiment: int, outcomes: list[Outcome]) -> bool:
    try:
        add_outcomes(database, experiment, outcomes, 32)
    except UnknownRequestError:
        return False
    return True


def killed(url: str, runs: int, seed: int) -> list[tuple[str, float]]:
    """What was acknowledged in so many runs."""
    command = [sys.executable, "-m", "tests.processes.kill", url, str(runs), str(seed)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
    return [(name, float(value)) for name, value in (line.split() for line in done.stdout.splitlines())]


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
