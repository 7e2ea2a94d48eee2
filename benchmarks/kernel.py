"""The kernel alone, on one CPU thread, against a processor that works row by row, as in vLLM's documentation."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from forkpoint_policies.compile.compiler import ServedModel, compile_policy
from forkpoint_policies.compile.program import key_of
from forkpoint_policies.compile.regions import Region, single_token_regions
from forkpoint_policies.compile.word_automaton import FREE
from forkpoint_policies.kernel.step import Rows, step
from forkpoint_policies.library import LIBRARY
from forkpoint_policies.spec import DEFAULT_FORK_THRESHOLD_NATS
from forkpoint_policies.worker.payload import PolicyPayload
from forkpoint_policies.worker.request_slots import RequestSlots
from forkpoint_server.demo.tokenizer import SPECIAL, for_serving
from forkpoint_server.policies.served_model import read_vocabulary

from .model import VOCABULARY, build_tokenizer
from .tables import Ratio, Row, Table
from .traffic import Traffic

ROWS = (1, 16, 64, 256)
POLICIES = ("observe", "nowait")
GOAL, GOAL_ROWS = 8.0, 256
CPU = torch.device("cpu")
FIRST_PLAIN = 1000  # a token from which on none is special: rows stay in their reasoning

COUNTED = "Of look-ups and scattered writes only the elements that move are counted."

Processor = Callable[[Tensor], object]


def kernel(rounds: int, sizes: Sequence[int] = ROWS) -> Table:
    """Times of one step; each arm gets its logits fresh before each step, untimed."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        target = _target()
        rows = [row for size in sizes for row in _compare(size, target, rounds)]
    finally:
        torch.set_num_threads(threads)
    notes = (
        "Row by row: softmax, log, product, sum, and one .item() per row, for the entropy; it decides nothing.",
        f"MB: read and written by each torch operation and each pass of a compiled sweep, cached or not. {COUNTED}",
        f"A row of logits is {VOCABULARY * 4 / 1e6:.2f} MB.",
    )
    title = f"one step on one thread, {VOCABULARY:,} tokens"
    return Table("kernel", title, ("times faster",), rows, notes)


def row_by_row(logits: Tensor) -> list[float]:
    """The entropies, as a per-request processor finds them: each takes its own row, and its figure to the host."""
    entropies = []
    for row in logits:
        shares = torch.softmax(row, dim=-1)
        entropies.append(-(shares * torch.log(shares)).sum().item())
    return entropies


def stepper(policy: str, target: ServedModel, rows: int) -> Processor:
    """A kernel step for a full batch under a policy. As in the adapters, one layout serves until the batch changes."""
    program = compile_policy(LIBRARY[policy].policy, target).program
    packed = program.pack()
    slots = RequestSlots(rows, VOCABULARY, CPU)
    seats = []
    for row in range(rows):
        payload = PolicyPayload(packed, key_of(packed), row + 1, "", FREE, Region.REASONING, 0, row, {})
        seats.append(slots.add(row, payload, 1.0, []).at(row))
    layout, _ = slots.layout(seats, rows)
    generated = itertools.count()
    last = FIRST_PLAIN + torch.arange(rows)

    def run(logits: Tensor) -> object:
        return step(slots.slots, Rows(layout, torch.full_like(last, next(generated)), last), logits)

    return run


def _target() -> ServedModel:
    tokenizer = for_serving(build_tokenizer())
    return ServedModel(
        vocabulary=read_vocabulary(tokenizer, VOCABULARY),
        fork_threshold=DEFAULT_FORK_THRESHOLD_NATS,
        regions=single_token_regions(SPECIAL.index("<think>"), SPECIAL.index("</think>")),
    )


def _compare(size: int, target: ServedModel, rounds: int) -> list[Row]:
    fresh = torch.randn(size, VOCABULARY, generator=torch.Generator().manual_seed(size)) * 3
    logits = torch.empty_like(fresh)
    arms: dict[str, Processor] = {
        "row by row": row_by_row,
        **{policy: stepper(policy, target, size) for policy in POLICIES},
    }
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    traffic: dict[str, float] = {}
    for name, arm in arms.items():  # also the first, slow call
        logits.copy_(fresh)
        with Traffic() as counted:
            arm(logits)
        traffic[name] = counted.bytes / size / 1e6
        arm(logits.copy_(fresh))
    steps = max(1, 64 // size)
    for _ in range(rounds):
        for name, arm in arms.items():
            seconds[name].append(statistics.median(_timed(arm, logits.copy_(fresh)) for _ in range(steps)))
    against = seconds["row by row"]
    return [
        Row(
            what=f"batch of {size}",
            arm=name,
            ratios=(Ratio(tuple(theirs / own for own, theirs in zip(seconds[name], against, strict=True))),),
            goal=GOAL if size == GOAL_ROWS else None,
            aside=(
                f"{statistics.median(seconds[name]) * 1e6 / size:.0f} µs and {traffic[name]:.1f} MB a row, "
                f"row by row {statistics.median(against) * 1e6 / size:.0f} µs and {traffic['row by row']:.1f} MB"
            ),
        )
        for name in POLICIES
    ]


def _timed(arm: Processor, logits: Tensor) -> float:
    started = time.perf_counter()
    arm(logits)
    return time.perf_counter() - started
