"""The benchmark of the database leaves it as it was."""

from __future__ import annotations

from sqlalchemy import Engine

from benchmarks.rows import rows
from forkpoint_server.store.experiments import read_definitions
from tests.unit.server.experiments.factories import num_rows


def test_rows_are_written_and_removed(database: Engine) -> None:
    listing = rows(database, 0.01)
    ((per_second, cpu, _),) = listing.rows
    assert float(per_second.replace(",", "")) > 0
    assert float(cpu) > 0
    assert num_rows(database) == 0
    assert read_definitions(database).experiments == ()
