"""Forkpoint against stock vLLM, as ratios measured in one run: `make bench`, `make bench ARGS="qwen --rounds 5"`.

`aa` measures how often the analysis of experiments errs, in 200 simulated experiments a round, and `coverage` how often
the intervals of comparisons do, in 400; they need no server.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from .arms import Plan
from .tables import Listing, Table

QUICK = Plan(rounds=1, seconds=1.0)
PLAN = Plan(rounds=5, seconds=8.0)


def main() -> None:
    """Measure the requested tables, and print each as soon as it is done."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument(
        "tables", nargs="*", metavar="TABLE", help=f"{', '.join(TABLES)}; all of them when none is named"
    )
    parser.add_argument("--rounds", type=int, help=f"how often each arm is measured ({PLAN.rounds})")
    parser.add_argument(
        "--seconds", type=float, help=f"about how long each time; at least one wave of requests ({PLAN.seconds:g})"
    )
    parser.add_argument(
        "--concurrency", type=int, nargs="+", help="requests at a time, or the kernel's rows, instead of the usual"
    )
    parser.add_argument("--smoke", action="store_true", help="one short round, to see whether it runs")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all rounds there, too")
    args = parser.parse_args()
    if unknown := set(args.tables) - set(TABLES):
        parser.error(f"there is no table {', '.join(sorted(unknown))}; there are {', '.join(TABLES)}")
    usual = QUICK if args.smoke else PLAN
    plan = Plan(args.rounds or usual.rounds, args.seconds or usual.seconds)
    done: list[Table | Listing] = []
    for name in args.tables or TABLES:
        for table in TABLES[name](plan, tuple(args.concurrency or ())):
            done.append(table)
            print(f"\n{table.markdown()}\n", flush=True)
        if args.json:
            args.json.write_text(
                json.dumps({"machine": _machine(), "tables": [table.data() for table in done]}, indent=1)
            )


def _qwen(plan: Plan, sizes: tuple[int, ...]) -> list[Table | Listing]:
    from .serving_tables import QWEN_CONCURRENCY, qwen

    return [qwen(plan, sizes or QWEN_CONCURRENCY)]


def _demo(plan: Plan, sizes: tuple[int, ...]) -> list[Table | Listing]:
    from .serving_tables import DEMO_CONCURRENCY, demo

    return [demo(plan, sizes or DEMO_CONCURRENCY)]


def _telemetry(plan: Plan, sizes: tuple[int, ...]) -> list[Table | Listing]:
    from .serving_tables import TELEMETRY_CONCURRENCY, telemetry

    return [telemetry(plan, sizes or TELEMETRY_CONCURRENCY)]


def _states_demo(plan: Plan, sizes: tuple[int, ...]) -> list[Table | Listing]:
    from .hidden_states import demo

    return [demo(plan, sizes)]


def _states_qwen(plan: Plan, sizes: tuple[int, ...]) -> list[Table | Listing]:
    from .hidden_states import qwen

    return [qwen(plan, sizes)]


def _kernel(plan: Plan, sizes: tuple[int, ...]) -> list[Table | Listing]:
    from .kernel import ROWS, kernel

    return [kernel(plan.rounds, sizes or ROWS)]


def _records(plan: Plan, sizes: tuple[int, ...]) -> list[Table | Listing]:
    from .records import CONCURRENCY, records

    return [records(plan.rounds, sizes or CONCURRENCY)]


def _branching(plan: Plan, sizes: tuple[int, ...]) -> list[Table | Listing]:
    from .branching import LEAVES, branching

    return [branching(plan.rounds, sizes or LEAVES)]


def _aa(plan: Plan, sizes: tuple[int, ...]) -> list[Table | Listing]:
    from .aa import aa

    return [*aa(plan.rounds)]


def _coverage(plan: Plan, sizes: tuple[int, ...]) -> list[Table | Listing]:
    from .coverage import coverage

    return [*coverage(plan.rounds)]


TABLES: dict[str, Callable[[Plan, tuple[int, ...]], list[Table | Listing]]] = {
    "kernel": _kernel,
    "records": _records,
    "demo": _demo,
    "qwen": _qwen,
    "telemetry": _telemetry,
    "states-demo": _states_demo,
    "states-qwen": _states_qwen,
    "branching": _branching,
    "aa": _aa,
    "coverage": _coverage,
}


def _machine() -> dict[str, str | int | None]:
    versions = {"python": platform.python_version(), "torch": version("torch")}
    return {"processor": platform.machine(), "cores": os.cpu_count(), **versions}


if __name__ == "__main__":
    main()
