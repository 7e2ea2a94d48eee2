"""Small requests on one API server and on several, in turns."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from pathlib import Path

from benchmarks.servers import forkpoints
from benchmarks.tables import Listing
from forkpoint_server.cli import DEMO_ARGUMENTS
from tests.processes.postgresql import postgresql

from .turns import Place, in_turns, table


def compare(count: int, concurrency: int, rounds: int, block_seconds: float) -> tuple[Listing, list[str]]:
    """One API server beside `count`, in turns; the table, and what was wrong with requests."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        data = stack.enter_context(tempfile.TemporaryDirectory(prefix="forkpoint-postgresql-"))
        database = stack.enter_context(postgresql(Path(data) / "data"))
        seqs = ("--max-num-seqs", str(2 * concurrency))
        numbers = ("1", str(count))
        arguments = [
            [*DEMO_ARGUMENTS, *seqs, "--database-url", database.new_database(), "--api-server-count", number]
            for number in numbers
        ]
        servers = stack.enter_context(forkpoints(folder, arguments))
        places = [Place(number, server.url, [server]) for number, server in zip(numbers, servers, strict=True)]
        turns = in_turns(places, concurrency, rounds, block_seconds)
    return table(turns, "api-servers", "API servers"), turns.problems()
