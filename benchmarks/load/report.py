"""What the load showed, as tables, and what of it should not be."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence

import numpy as np

from benchmarks.tables import Listing, Ratio

from .measurement import Measured, Plan
from .memory import Memory
from .streams import Stream

MAX_RISE_MIB = 5.0
"""Memory is flat if a line through the second half of its samples rises by no more than this over that half.

Allocators keep memory that is free only for a moment, so that stock vLLM may rise by more under the same load: then
Forkpoint may rise by this much more than stock.
"""
TIMES: dict[str, Callable[[Stream], float]] = {
    "to the first token": lambda stream: stream.first_seconds,
    "between tokens": lambda stream: stream.between_seconds,
    "whole answer": lambda stream: stream.whole_seconds,
}
KINDS = ("no policy", "policy", "branching")


def problems(measured: Measured) -> list[str]:
    """What went wrong, in words; empty when nothing did."""
    everyone = [
        *measured.stock_streams,
        *measured.streams,
        *(stream for rounds in measured.blocks.values() for block in rounds for stream in block),
    ]
    wrong = [stream.wrong for stream in everyone if stream.wrong is not None]
    return [
        *wrong,
        *(f"{name} is {value:g} when nothing runs" for name, value in measured.at_rest.items()),
        *(_growth(one, measured) for one in measured.memory if not is_flat(one, measured)),
    ]


def _growth(memory: Memory, measured: Measured) -> str:
    own, stock = memory.slope_mib_per_minute(), _stock_slope(memory, measured)
    return f"{memory.name} grows by {own:.2f} MiB a minute, stock vLLM's by {stock:.2f}"


def is_flat(memory: Memory, measured: Measured) -> bool:
    """Whether a process's memory stayed as it was, or rose as stock's, as far as a run of this length shows."""
    bound = bound_mib_per_minute(measured.plan) + max(0.0, _stock_slope(memory, measured))
    return memory.slope_mib_per_minute() <= bound


def _stock_slope(memory: Memory, measured: Measured) -> float:
    """That of stock vLLM's process of the same name; of its largest where there are several, of none 0."""
    same = [one for one in measured.stock_memory if one.name == memory.name]
    return max(same, key=lambda one: one.peak_mib).slope_mib_per_minute() if same else 0.0


def bound_mib_per_minute(plan: Plan) -> float:
    return MAX_RISE_MIB / (plan.seconds / 2 / 60)


def tables(measured: Measured) -> list[Listing]:
    """What is printed."""
    return [_soak(measured), _memory(measured), *([_latency(measured)] if measured.plan.rounds else [])]


def _soak(measured: Measured) -> Listing:
    streams, plan = measured.streams, measured.plan
    kinds = {kind: [stream for stream in streams if stream.kind == kind] for kind in KINDS}
    started = sum(value for name, value in measured.branches.items() if '"refused"' not in name)
    refused = sum(measured.branches.values()) - started
    rows = (
        ("streams", str(len(streams)), ", ".join(f"{len(some)} {kind}" for kind, some in kinds.items())),
        ("tokens", str(sum(stream.tokens for stream in streams)), "of streams that were read to their end"),
        ("errors and stuck streams", str(sum(stream.wrong is not None for stream in streams)), ""),
        ("clients that left", str(sum(stream.left for stream in streams)), "on purpose, in the middle"),
        ("branches", f"{started:g}", f"{refused:g} refused for lack of room"),
        ("not 0 at rest", str(len(measured.at_rest)), ", ".join(measured.at_rest)),
    )
    title = f"{plan.concurrency} streams at once for {plan.seconds:g} s, the embedded model"
    return Listing("load", title, ("what", "how many", ""), rows, ())


def _memory(measured: Measured) -> Listing:
    bound = bound_mib_per_minute(measured.plan)
    arms = (("stock vLLM", measured.stock_memory), ("Forkpoint", measured.memory))
    rows = [
        (
            one.name, arm,
            f"{one.samples[0][1] / 2**20:.0f}", f"{one.peak_mib:.0f}", f"{one.slope_mib_per_minute():+.2f}",
            "" if arm != "Forkpoint" else "flat" if is_flat(one, measured) else "NOT FLAT",
        )
        for arm, memory in arms
        for one in memory
    ]  # fmt: skip
    rows.sort(key=lambda row: (row[0], row[1] == "Forkpoint"))
    streams = f"stock vLLM {len(measured.stock_streams)} streams, Forkpoint {len(measured.streams)}"
    notes = [
        f"Slope: least squares over the second half of the time; flat is at most {bound:.2f} MiB a minute above stock.",
        f"Each for {measured.plan.seconds:g} s, one after the other: {streams}.",
    ]
    heads = ("process", "of", "at first, MiB", "peak, MiB", "slope, MiB a minute", "")
    return Listing("memory", "resident memory of each process of the two servers", heads, rows, notes)


def _latency(measured: Measured) -> Listing:
    rows = []
    for kind in (*KINDS, None):
        for what, time_of in TIMES.items():
            if kind == "branching" and what == "between tokens":
                continue  # a tree with one answer gives what is certain, many tokens at once
            of_arm = {
                arm: [_times(block, kind, time_of) for block in rounds] for arm, rounds in measured.blocks.items()
            }
            stock = of_arm.pop("stock")
            rows.append((kind or "all", what, _seconds(stock), *(_beside(own, stock) for own in of_arm.values())))
    plan = measured.plan
    title = f"latency beside stock vLLM, {plan.rounds} rounds of {plan.block_seconds:g} s in turns"
    heads = ("streams", "time", "stock, s", "Forkpoint, no policies, s", "Forkpoint with policies, s")
    medians = "Median and, in brackets, 99th percentile of all rounds; then the medians' ratio to stock's: "
    medians += "of the rounds the median, "
    note = "Stock gets the same requests without the policies: for a tree with n leaves it draws n samples; "
    note += "a tree with one answer stands "
    notes = (f"{medians}lowest and highest.", f"{note}beside one sample.")
    return Listing("latency", title, heads, rows, notes)


def _times(block: Sequence[Stream], kind: str | None, time_of: Callable[[Stream], float]) -> list[float]:
    whole = [stream for stream in block if stream.wrong is None and not stream.left]
    return [time_of(stream) for stream in whole if kind in (stream.kind, None)]


def _seconds(rounds: Sequence[Sequence[float]]) -> str:
    every = [time for times in rounds for time in times]
    return f"{np.median(every):.3g} ({np.percentile(every, 99):.3g})" if every else "none"


def _beside(own: Sequence[Sequence[float]], stock: Sequence[Sequence[float]]) -> str:
    pairs = [
        (statistics.median(mine), statistics.median(theirs))
        for mine, theirs in zip(own, stock, strict=True)
        if mine and theirs
    ]
    return f"{_seconds(own)} × {Ratio(tuple(mine / theirs for mine, theirs in pairs))}" if pairs else "none"
