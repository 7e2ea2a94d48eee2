"""Runs the load: first on each server without a pause, to see whether anything breaks or grows; then in turns."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx

from benchmarks.servers import ServerProcess, both
from forkpoint_server.cli import DEMO_ARGUMENTS

from .bodies import EXPERIMENT, Bodies
from .memory import Memory, sampled_memory
from .streams import Stream, load

TRACE_TOKENS = 20_000
"""A hundredth of the default, so that it fills within seconds: growth after that is not due to traces."""
REST_SECONDS = 60.0
"""How long the engine may take after the last answer to say that nothing runs: it reports only now and then."""
AT_REST = (
    "vllm:num_requests_running", "vllm:num_requests_waiting", "forkpoint_choices_running", "forkpoint_records_waiting",
    "forkpoint_telemetry_dropped_total", "forkpoint_records_dropped_total",
)  # fmt: skip
"""Of /metrics, what is to be 0 once all is answered."""


@dataclass(frozen=True)
class Plan:
    """How many streams at once and for how long; and how often, and how long each time, beside stock vLLM."""

    concurrency: int
    seconds: float
    rounds: int
    block_seconds: float


@dataclass(frozen=True)
class Measured:
    """The result. `at_rest`: the metrics that are not 0 afterwards; `blocks`: by arm, the streams of each round.

    `stock_streams` and `stock_memory` are of stock vLLM under the same requests, less their policies, for as long.
    """

    plan: Plan
    streams: Sequence[Stream]
    stock_streams: Sequence[Stream]
    memory: Sequence[Memory]
    stock_memory: Sequence[Memory]
    at_rest: dict[str, float]
    branches: dict[str, float]
    blocks: dict[str, list[list[Stream]]]


def measure(plan: Plan) -> Measured:
    """Start both servers, and put them under the load."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        places = ("--max-num-seqs", str(2 * plan.concurrency))  # otherwise no branch finds room beside so many streams
        store = ("--database-url", f"sqlite:///{folder / 'store.sqlite3'}", "--trace-tokens", str(TRACE_TOKENS))
        arguments = [*DEMO_ARGUMENTS, *places]
        stock, ours = stack.enter_context(both(folder, ["--model", *arguments], [*arguments, *store]))
        httpx.post(f"{ours.api}/experiments", json=EXPERIMENT, timeout=60).raise_for_status()
        for server in (stock, ours):  # what is compiled, cached or read at first
            load(server.url, Bodies(plain=server is stock), plan.concurrency, 1)
        stock_streams, stock_memory = _long(stock, plan, plain=True)
        streams, memory = _long(ours, plan, plain=False)
        at_rest = _at_rest(ours)
        branches = {
            name: value for name, value in ours.metrics().items() if name.startswith("forkpoint_branches_total")
        }
        blocks = _in_turns(stock, ours, plan)
        return Measured(plan, streams, stock_streams, memory, stock_memory, at_rest, branches, blocks)


def _long(server: ServerProcess, plan: Plan, *, plain: bool) -> tuple[list[Stream], list[Memory]]:
    with sampled_memory(server.process.pid) as memory:
        streams = load(server.url, Bodies(plain), plan.concurrency, plan.seconds)
    name = "stock vLLM" if plain else "Forkpoint"
    print(f"{plan.seconds:g} s without a pause: {name}, {len(streams)} streams", file=sys.stderr, flush=True)
    return streams, list(memory.values())


def _at_rest(server: ServerProcess) -> dict[str, float]:
    deadline = time.monotonic() + REST_SECONDS
    while True:
        found = {name: value for name, value in server.metrics().items() if name.startswith(AT_REST) and value}
        if not found or time.monotonic() > deadline:
            return found
        time.sleep(1)


def _in_turns(stock: ServerProcess, ours: ServerProcess, plan: Plan) -> dict[str, list[list[Stream]]]:
    arms = {"stock": (stock, True), "no policies": (ours, True), "policies": (ours, False)}
    blocks: dict[str, list[list[Stream]]] = {name: [] for name in arms}
    for number in range(plan.rounds):
        for name, (server, plain) in arms.items():
            blocks[name].append(load(server.url, Bodies(plain), plan.concurrency, plan.block_seconds))
            print(
                f"round {number + 1} of {plan.rounds}: {name}, {len(blocks[name][-1])} streams",
                file=sys.stderr,
                flush=True,
            )
    return blocks
