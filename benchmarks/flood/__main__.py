"""`python -m benchmarks.flood`: how many records a second one API server's process takes, and where it falls behind.

Rates double until records are missing or read too late. Rates, lags and the knee depend on what else the machine does;
the CPU time a record costs hardly does.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.tables import Listing

from .measurement import Flood, Flooded, measure

FIRST_RATE = 25_000
MAX_RATE = 1_600_000
MAX_RECORDS = 4_000_000
"""Of one flood: its traces are opened before it starts, and stay in memory up to the server's own bound."""
MAX_LAG_SECONDS = 1.0
"""So long the server waits for an answer's last records."""

HEADS = (
    "records a second", "kept up", "server, CPU µs a record", "server, cores", "worker, CPU µs a record",
    "lag, median ms", "lag, 99% ms", "missing, counted", "missing, real", "memory, MiB",
)  # fmt: skip


def keeps_up(flooded: Flooded) -> bool:
    """Whether the server took the records as fast as they were sent."""
    return not flooded.missing and flooded.lag_at_end < MAX_LAG_SECONDS


def find_knee(flood: Flood, max_rate: float) -> list[Flooded]:
    """Floods at doubling rates; the last is the first at which the server did not keep up, if there was one."""
    found: list[Flooded] = []
    rate = float(FIRST_RATE)
    while rate <= max_rate:
        seconds = min(flood.seconds, MAX_RECORDS / rate)
        found.append(asyncio.run(measure(replace(flood, records_per_second=rate, seconds=seconds))))
        if not keeps_up(found[-1]):
            break
        rate *= 2
    return found


def listing(flood: Flood, found: list[Flooded]) -> Listing:
    """The table of one transport."""
    way = "TCP with CURVE" if flood.encrypted else "a local socket"
    forks = f", {flood.alternatives} alternatives each" if flood.alternatives else ""
    bytes_per_record = found[0].bytes_per_record
    return Listing(
        "flood",
        f"{way}, {flood.feeders} workers, {flood.rows} records a step{forks}: {bytes_per_record:.1f} bytes a record",
        HEADS,
        [_row(one) for one in found],
        (
            "Lag: from a step's end in the worker to its reading in the server.",
            f"Kept up: no record is missing, and the last tenth was read within {MAX_LAG_SECONDS:g} s.",
            "The server's process receives, keeps, reports and counts traces; HTTP and vLLM's own work are not in it.",
        ),
    )


def _row(one: Flooded) -> tuple[str, ...]:
    median, high = np.percentile(one.lag, [50, 99]) * 1e3 if len(one.lag) else (np.inf, np.inf)
    return (
        f"{one.sent_per_second:,.0f}",
        "yes" if keeps_up(one) else "no",
        f"{one.cpu_microseconds:.2f}",
        f"{one.busy:.2f}",
        f"{one.feeder_cpu_seconds * 1e6 / one.sent:.2f}",
        f"{median:.0f}",
        f"{high:.0f}",
        str(one.missing),
        str(one.late_or_lost),
        f"{one.rise_mib:.0f}",
    )


def main() -> int:
    """Print a table for each transport. The exit status is 1 if the server's count of missing records is wrong."""
    usual = Flood()
    parser = argparse.ArgumentParser(prog="python -m benchmarks.flood", description=__doc__)
    parser.add_argument("--seconds", type=float, default=usual.seconds, help="at each rate (%(default)s)")
    parser.add_argument("--workers", type=int, default=usual.feeders, help="processes that send (%(default)s)")
    parser.add_argument("--rows", type=int, default=usual.rows, help="records a step of each worker (%(default)s)")
    parser.add_argument("--alternatives", type=int, default=0, help="likeliest tokens with each record (%(default)s)")
    parser.add_argument("--policy", default=usual.policy, help="of the library (%(default)s)")
    parser.add_argument(
        "--max-rate", type=float, default=MAX_RATE, help="the highest rate, in records a second (%(default)s)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the tables there, too")
    args = parser.parse_args()
    flood = replace(
        usual, seconds=args.seconds, feeders=args.workers, rows=args.rows, alternatives=args.alternatives,
        policy=args.policy,
    )  # fmt: skip
    print(f"load of this machine in the last minute: {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors")
    tables, everything = [], []
    for encrypted in (False, True):
        own = replace(flood, encrypted=encrypted)
        found = find_knee(own, args.max_rate)
        everything += found
        tables.append(listing(own, found))
        print(f"\n{tables[-1].markdown()}\n", flush=True)
    if args.json:
        args.json.write_text(json.dumps([table.data() for table in tables], indent=1))
    return int(any(one.missing != one.late_or_lost for one in everything))


if __name__ == "__main__":
    raise SystemExit(main())
