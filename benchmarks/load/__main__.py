"""`python -m benchmarks.load`: many streams under every kind of policy, for long: errors, memory growth, slowdown.

The exit status is 1 if anything is wrong.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from . import api_servers, router
from .measurement import Plan, measure
from .report import problems, tables


def main() -> int:
    """Measure, print the tables, and say what is wrong."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.load", description=__doc__)
    parser.add_argument("--concurrency", type=int, default=256, help="streams at once (%(default)s)")
    parser.add_argument("--seconds", type=float, default=600, help="how long without a pause (%(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="how often beside stock vLLM (%(default)s)")
    parser.add_argument("--block-seconds", type=float, default=40, help="how long each time (%(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the tables there, too")
    parser.add_argument(
        "--api-servers", type=int, default=0, metavar="N",
        help="instead, small requests on N API servers beside one, in turns",
    )  # fmt: skip
    parser.add_argument(
        "--replicas", type=int, default=0, metavar="N",
        help="instead, small requests on one server, and on N behind HAProxy, in turns",
    )  # fmt: skip
    args = parser.parse_args()
    if args.api_servers > 1 or args.replicas > 1:
        module, count = (router, args.replicas) if args.replicas > 1 else (api_servers, args.api_servers)
        table, wrong = module.compare(count, args.concurrency, args.rounds, args.block_seconds)
        done = [table]
    else:
        measured = measure(Plan(args.concurrency, args.seconds, args.rounds, args.block_seconds))
        done, wrong = tables(measured), problems(measured)
    for table in done:
        print(f"\n{table.markdown()}\n")
    if args.json:
        args.json.write_text(json.dumps({"tables": [table.data() for table in done], "wrong": wrong}, indent=1))
    for one in wrong:
        print(one)
    return int(bool(wrong))


if __name__ == "__main__":
    raise SystemExit(main())
