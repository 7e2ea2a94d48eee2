"""The kernel alone, on one CPU thread, against a processor that works row by row, as in vLLM's documentation."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from forkpoint_policies.compile.compiler import ServedModel, compile_policy
from forkpoint_policies.compile.regions import Region, single_token_regions
from forkpoint_policies.compile.word_automaton import FREE
from forkpoint_policies.kernel.step_types import Batch
from forkpoint_policies.library import LIBRARY
from forkpoint_policies.spec import DEFAULT_FORK_THRESHOLD_NATS
from forkpoint_policies.worker.payload import PolicyPayload
from forkpoint_policies.worker.policy_slots import PolicySlots
from forkpoint_server.demo.tokenizer import SPECIAL, for_serving
from forkpoint_server.policies.served_model import read_vocabulary

from .model import VOCABULARY, build_tokenizer
from .tables import Ratio, Row, Table

ROWS = (1, 16, 64, 256)
MIX_OF_8 = (
    "observe", "nowait", "dual-temperature", "entropix", "switch-penalty", "thinking-ban", "top-h",
    "amplify-reflection",
)  # fmt: skip
MIXES: dict[str, tuple[str, ...]] = {
    **{name: (name,) for name in ("observe", "nowait", "dual-temperature", "top-h")},
    "mix of 8": MIX_OF_8,
}
GOAL, GOAL_ROWS = 8.0, 256
CPU = torch.device("cpu")
FIRST_PLAIN = 1000  # a token from which on none is special: rows stay in their reasoning

Processor = Callable[[Tensor], object]


def kernel(rounds: int, sizes: Sequence[int] = ROWS) -> Table:
    """Times of one step; each arm gets its logits fresh before each step, untimed."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        target = served_model()
        rows = [row for size in sizes for row in _compare(size, target, rounds)]
    finally:
        torch.set_num_threads(threads)
    notes = (
        "Row by row: softmax, log, product, sum, and one .item() per row, for the entropy; it decides nothing.",
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


def stepper(policies: Sequence[str], target: ServedModel, rows: int) -> Processor:
    """A step for a full batch under these policies in turn."""
    slots = PolicySlots(rows, VOCABULARY, CPU)
    for row in range(rows):
        slots.add(row, payload(policies[row % len(policies)], row, target), 1.0, [])
    generated, last_tokens = itertools.count(-1), FIRST_PLAIN + torch.arange(rows)
    of_rows, prompt_lens = torch.arange(rows, dtype=torch.int32), torch.zeros(rows, dtype=torch.int32)

    def run(logits: Tensor) -> object:
        positions = torch.full((rows,), next(generated))
        return slots.step(Batch(of_rows, positions, last_tokens, prompt_lens), logits)

    return run


def payload(policy: str, seed: int, target: ServedModel) -> PolicyPayload:
    """A request's policy, as the server sends it."""
    compiled = compile_policy(LIBRARY[policy].policy, target)
    return PolicyPayload(
        compiled.packed, compiled.key, seed + 1, "", FREE, Region.REASONING, 0, seed, compiled.placebo_tokens(seed)
    )


def served_model() -> ServedModel:
    tokenizer = for_serving(build_tokenizer())
    return ServedModel(
        vocabulary=read_vocabulary(tokenizer, VOCABULARY),
        fork_threshold=DEFAULT_FORK_THRESHOLD_NATS,
        regions=single_token_regions(SPECIAL.index("<think>"), SPECIAL.index("</think>")),
        encode=lambda text: tokenizer.encode(text, add_special_tokens=False),
    )


def _compare(size: int, target: ServedModel, rounds: int) -> list[Row]:
    fresh = torch.randn(size, VOCABULARY, generator=torch.Generator().manual_seed(size)) * 3
    logits = torch.empty_like(fresh)
    arms: dict[str, Processor] = {
        "row by row": row_by_row,
        **{name: stepper(policies, target, size) for name, policies in MIXES.items()},
    }
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    for arm in arms.values():  # the first calls are slow
        arm(logits.copy_(fresh))
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
                f"{statistics.median(seconds[name]) * 1e6 / size:.0f} µs a row, "
                f"row by row {statistics.median(against) * 1e6 / size:.0f} µs"
            ),
        )
        for name in MIXES
    ]


def _timed(arm: Processor, logits: Tensor) -> float:
    started = time.perf_counter()
    arm(logits)
    return time.perf_counter() - started
