"""Small requests on one API server and on several, in turns: requests a second, times, and what they cost."""

from __future__ import annotations

import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.servers import ServerProcess, forkpoints
from benchmarks.tables import Listing, Ratio
from forkpoint_server.cli import DEMO_ARGUMENTS
from forkpoint_server.demo import SERVED_NAME
from tests.processes.postgresql import postgresql

from .bodies import LoadRequest
from .streams import Stream, load

MAX_TOKENS = 4
"""So few that rendering, HTTP and records take a larger part of the time than the model does."""
WARM_SECONDS = 3.0


@dataclass(frozen=True)
class SmallRequests:
    """Short answers under `observe`, by number."""

    def __getitem__(self, number: int) -> LoadRequest:
        body: dict[str, Any] = {
            "model": SERVED_NAME, "stream": True, "stream_options": {"include_usage": True}, "policy": "observe",
            "max_tokens": MAX_TOKENS, "ignore_eos": True, "seed": number,
            "messages": [{"role": "user", "content": f"Use 3, 7, {number % 25 + 1} to make 17."}],
        }  # fmt: skip
        return LoadRequest("policy", "/v1/chat/completions", body, None)


@dataclass(frozen=True)
class Block:
    """One turn of one server. `processor_seconds`: of all its processes."""

    streams: Sequence[Stream]
    seconds: float
    processor_seconds: float

    @property
    def requests_per_second(self) -> float:
        return len(self.streams) / self.seconds

    @property
    def processor_milliseconds(self) -> float:
        """Of the processor, for a request."""
        return 1000 * self.processor_seconds / max(len(self.streams), 1)


def compare(count: int, concurrency: int, rounds: int, block_seconds: float) -> tuple[Listing, list[str]]:
    """One API server beside `count`, in turns; the table, and what was wrong with requests."""
    blocks: dict[int, list[Block]] = {1: [], count: []}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        data = stack.enter_context(tempfile.TemporaryDirectory(prefix="forkpoint-postgresql-"))
        database = stack.enter_context(postgresql(Path(data) / "data"))
        places = ("--max-num-seqs", str(2 * concurrency))
        arguments = [
            [*DEMO_ARGUMENTS, *places, "--database-url", database.new_database(), "--api-server-count", str(number)]
            for number in blocks
        ]
        servers = dict(zip(blocks, stack.enter_context(forkpoints(folder, arguments)), strict=True))
        for server in servers.values():
            load(server.url, SmallRequests(), concurrency, WARM_SECONDS)
        for turn in range(rounds):
            for number in blocks if turn % 2 == 0 else reversed(blocks):
                blocks[number].append(_block(servers[number], concurrency, block_seconds))
                print(f"round {turn + 1} of {rounds}: {number} API servers", file=sys.stderr, flush=True)
    wrong = [one.wrong for some in blocks.values() for block in some for one in block.streams if one.wrong is not None]
    return _table(blocks, concurrency, block_seconds), wrong


def _block(server: ServerProcess, concurrency: int, seconds: float) -> Block:
    before = server.processor_seconds()
    streams = load(server.url, SmallRequests(), concurrency, seconds)
    last = max(stream.began + stream.whole_seconds for stream in streams)
    whole = last - min(stream.began for stream in streams)
    return Block(streams, whole, server.processor_seconds() - before)


def _table(blocks: Mapping[int, Sequence[Block]], concurrency: int, block_seconds: float) -> Listing:
    first = blocks[1]
    rows = []
    for number, own in blocks.items():
        times = [stream.whole_seconds for block in own for stream in block.streams if stream.wrong is None]
        pairs = list(zip(own, first, strict=True))
        rate = Ratio(tuple(mine.requests_per_second / one.requests_per_second for mine, one in pairs))
        cost = Ratio(tuple(mine.processor_milliseconds / one.processor_milliseconds for mine, one in pairs))
        rows.append(
            (
                str(number),
                f"{statistics.median(block.requests_per_second for block in own):.1f}" + _beside(rate, number),
                f"{np.median(times):.3f} ({np.percentile(times, 99):.3f})",
                f"{statistics.median(block.processor_milliseconds for block in own):.1f}" + _beside(cost, number),
            )
        )
    title = f"{MAX_TOKENS} tokens a request, {concurrency} at once, {len(first)} rounds of {block_seconds:g} s in turns"
    heads = ("API servers", "requests a second", "seconds, median (99%)", "CPU ms a request")
    return Listing("api-servers", title, heads, rows, ("After ×: the ratio to one API server, of the rounds.",))


def _beside(ratio: Ratio, number: int) -> str:
    return "" if number == 1 else f" × {ratio}"
