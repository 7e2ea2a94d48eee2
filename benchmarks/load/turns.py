"""Small requests to several places, in turns: requests a second, times, and what they cost."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.servers import ServerProcess
from benchmarks.tables import Listing, Ratio
from forkpoint_server.demo import SERVED_NAME

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
class Place:
    """Where requests go, and all that works for them there."""

    name: str
    url: str
    processes: Sequence[ServerProcess]

    def processor_seconds(self) -> float:
        return sum(process.processor_seconds() for process in self.processes)


@dataclass(frozen=True)
class Block:
    """One turn of one place. `processor_seconds`: of all its processes."""

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


@dataclass(frozen=True)
class Turns:
    """What was measured: by place, in order, a block for each round."""

    blocks: Mapping[str, Sequence[Block]]
    concurrency: int
    block_seconds: float

    def problems(self) -> list[str]:
        """What was wrong with requests."""
        streams = [stream for some in self.blocks.values() for block in some for stream in block.streams]
        return [stream.wrong for stream in streams if stream.wrong is not None]


def in_turns(places: Sequence[Place], concurrency: int, rounds: int, block_seconds: float) -> Turns:
    """Load the places one after the other, in every second round in reverse order."""
    blocks: dict[str, list[Block]] = {place.name: [] for place in places}
    for place in places:
        load(place.url, SmallRequests(), concurrency, WARM_SECONDS)
    for turn in range(rounds):
        for place in places if turn % 2 == 0 else reversed(places):
            blocks[place.name].append(_block(place, concurrency, block_seconds))
            print(f"round {turn + 1} of {rounds}: {place.name}", file=sys.stderr, flush=True)
    return Turns(blocks, concurrency, block_seconds)


def _block(place: Place, concurrency: int, seconds: float) -> Block:
    before = place.processor_seconds()
    streams = load(place.url, SmallRequests(), concurrency, seconds)
    last = max(stream.began + stream.whole_seconds for stream in streams)
    whole = last - min(stream.began for stream in streams)
    return Block(streams, whole, place.processor_seconds() - before)


def table(turns: Turns, name: str, head: str) -> Listing:
    """A row for each place; `head` says what they are. Ratios are to the first one."""
    first, *_ = turns.blocks.values()
    rows = []
    for place, own in turns.blocks.items():
        streams = [stream for block in own for stream in block.streams]
        times = [stream.whole_seconds for stream in streams if stream.wrong is None]
        pairs = list(zip(own, first, strict=True))
        rate = Ratio(tuple(mine.requests_per_second / one.requests_per_second for mine, one in pairs))
        cost = Ratio(tuple(mine.processor_milliseconds / one.processor_milliseconds for mine, one in pairs))
        rows.append(
            (
                place,
                str(len(streams)),
                str(sum(stream.wrong is not None for stream in streams)),
                f"{statistics.median(block.requests_per_second for block in own):.1f}" + _beside(rate, own is first),
                f"{np.median(times):.3f} ({np.percentile(times, 99):.3f})",
                f"{statistics.median(block.processor_milliseconds for block in own):.1f}" + _beside(cost, own is first),
            )
        )
    title = f"{MAX_TOKENS} tokens a request, {turns.concurrency} at once, "
    title += f"{len(first)} rounds of {turns.block_seconds:g} s in turns"
    heads = (head, "requests", "errors", "requests a second", "seconds, median (99%)", "CPU ms a request")
    return Listing(name, title, heads, rows, ("After ×: the ratio to the first row, of the rounds.",))


def _beside(ratio: Ratio, first: bool) -> str:
    return "" if first else f" × {ratio}"
