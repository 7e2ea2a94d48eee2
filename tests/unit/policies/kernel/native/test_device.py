"""The tables of a device: what is written when, and what a step starts there."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from torch import Tensor

from forkpoint_policies.compile.program import Program
from forkpoint_policies.kernel.native import abi
from forkpoint_policies.kernel.native import columns as c
from forkpoint_policies.kernel.native.device import NUM_COPIES
from forkpoint_policies.kernel.native.heap import FIRST_INTS
from forkpoint_policies.kernel.step_types import Batch, StepRecord
from forkpoint_policies.worker.compiled_slots import CompiledSlots
from tests.unit.policies.factories import CPU, Request, compiled, policy, random_logits, rule
from tests.unit.policies.kernel.native.block_kernels import BlockKernels
from tests.unit.policies.vocabularies import SIZE, tokens

ONCE = compiled(policy(rule({"at_most": 1}, suppress={"words": ["wait"]})))
OTHERS = tuple(
    compiled(policy(one))
    for one in (
        rule(observe={}),
        rule({"entropy_above": 1.0}, temperature=0.5),
        rule(truncate={"top_p": 0.9}),
        rule({"entropy_quantile_above": 0.5}, amplify={"words": ["so"], "bias": 2.0}),
        rule({"confidence_below": 7, "confidence_window": 2}, truncate={"top_h": 0.5}),
        {"do": {"control": {"like": rule(suppress={"words": ["so"]}), "match": "probability"}}},
    )
)
SHADOW = compiled(policy(rule(temperature=0.5), shadow=True))


@pytest.fixture
def kernel() -> str:
    """Not one of several, as for other tests of the kernel."""
    return "block"


class Counting(BlockKernels):
    """What is started."""

    def __init__(self) -> None:
        self.started = Counter[str]()

    def write(self, writes: abi.Writes, groups: int) -> None:
        self.started["write"] += 1
        super().write(writes, groups)

    def measure(self, tables: abi.Tables, batch: abi.Batch, step: abi.Step, parts: int) -> None:
        self.started["measure"] += 1
        super().measure(tables, batch, step, parts)

    def step(self, tables: abi.Tables, batch: abi.Batch, step: abi.Step) -> None:
        self.started["step"] += 1
        super().step(tables, batch, step)


def add(slots: CompiledSlots, slot: int, program: Program, generated: list[int], **request: Any) -> None:
    handle = request.pop("handle", slot + 1)
    slots.add(slot, Request(program, **request, handle=handle).payload(), 1.0, generated, 0)


def stepped(slots: CompiledSlots, of_slots: list[int], generated: list[int]) -> tuple[StepRecord, Tensor]:
    """A step of requests that have the same tokens."""
    rows, logits = len(of_slots), random_logits(SIZE).repeat(len(of_slots), 1)
    last = torch.full((rows,), generated[-1] if generated else 0)
    batch = Batch(
        torch.tensor(of_slots, dtype=torch.int32), torch.full((rows,), len(generated) - 1), last,
        torch.zeros(max(of_slots) + 1, dtype=torch.int32),
    )  # fmt: skip
    return slots.step(batch, logits, 0), logits


def fired(record: StepRecord) -> list[bool]:
    return [bool(flags >> 8) for flags in record.rows[:, c.R_FLAGS].tolist()]


@pytest.mark.parametrize("rows", [1, 8, 256])
@pytest.mark.parametrize("programs", [OTHERS[:1], OTHERS], ids=["one", "a mix"])
def test_a_step_starts_two_kernels_and_one_more_where_the_batch_has_changed(
    programs: tuple[Program, ...], rows: int
) -> None:
    kernels = Counting()
    slots = CompiledSlots(rows, SIZE, CPU, kernels=kernels)
    for row in range(rows):
        add(slots, row, programs[row % len(programs)], [])
    stepped(slots, list(range(rows)), [])
    assert kernels.started == {"write": 1, "measure": 1, "step": 1}
    stepped(slots, list(range(rows)), [5])
    assert kernels.started == {"write": 1, "measure": 2, "step": 2}
    slots.remove(0)
    add(slots, 0, programs[-1], [5, 5], handle=1000)
    stepped(slots, list(range(rows)), [5, 5])
    assert kernels.started == {"write": 2, "measure": 3, "step": 3}


def test_a_request_that_was_removed_before_any_step_starts_anew() -> None:
    """The row of its state still has that of a request before it, with as early a position."""
    slots, text = CompiledSlots(1, SIZE, CPU, kernels=BlockKernels()), tokens("a|b")
    for handle in range(1100):  # until rows are used again
        add(slots, 0, ONCE, [], handle=handle)
        if handle < 1090:
            record, _ = stepped(slots, [0], [])
            assert fired(record) == [True]
            stepped(slots, [0], text[:1])
        slots.remove(0)
    add(slots, 0, ONCE, text, handle=1099)
    record, _ = stepped(slots, [0], text)
    assert fired(record) == [True], "nothing of it was ever generated here"


def test_a_preempted_request_goes_on_in_another_slot() -> None:
    slots, text = CompiledSlots(2, SIZE, CPU, kernels=BlockKernels()), tokens("a|b")
    add(slots, 0, ONCE, [], handle=7)
    stepped(slots, [0], [])
    slots.remove(0)
    add(slots, 0, ONCE, [], handle=8)
    add(slots, 1, ONCE, text[:1], handle=7)
    record, _ = stepped(slots, [0, 1], text[:1])
    assert fired(record)[1] is False
    stepped(slots, [1], text)
    slots.remove(1)
    add(slots, 1, ONCE, [], handle=7)  # earlier than its state: as if it had never been
    record, _ = stepped(slots, [1], [])
    assert fired(record) == [True]


def test_programs_are_there_when_the_heap_has_grown() -> None:
    slots = CompiledSlots(2, SIZE, CPU, kernels=BlockKernels())
    add(slots, 0, compiled(policy(rule(suppress={"token_ids": [3]}))), [])
    stepped(slots, [0], [])
    sent = [int(one) for one in np.random.default_rng(0).integers(0, SIZE, 2 * FIRST_INTS)]
    add(slots, 1, compiled(policy(rule(suppress={"token_ids": [4]}))), [], forced_tokens=sent)
    _, logits = stepped(slots, [0, 1], [])
    assert torch.isneginf(logits[0]).nonzero().flatten().tolist() == [3]
    assert logits[1].argmax() == sent[0]
    assert len(slots.native.tables.ints.values) > 2 * FIRST_INTS


def test_more_requests_in_shadow_than_there_are_copies() -> None:
    slots, rows = CompiledSlots(2 * NUM_COPIES, SIZE, CPU, kernels=BlockKernels()), list(range(2 * NUM_COPIES))
    for row in rows:
        add(slots, row, SHADOW, [])
    record, logits = stepped(slots, rows, [])
    assert fired(record) == [True] * len(rows)
    assert torch.equal(logits, random_logits(SIZE).repeat(len(rows), 1))
    assert (record.rows[:, c.R_EFFECT].view(torch.float32) > 0).all()


@pytest.mark.parametrize(("begin", "end"), [(0, SIZE), (3, SIZE), (5, 6)])
def test_logits_that_are_no_numbers_stop_nothing(begin: int, end: int) -> None:
    """All threads of a block must take the same way, also where what they read is NaN; and other rows stay right."""
    rows = len(OTHERS) + 1
    slots = CompiledSlots(rows, SIZE, CPU, kernels=BlockKernels())
    for row in range(rows):
        add(slots, row, OTHERS[row % len(OTHERS)], [])
    logits = random_logits(SIZE).repeat(rows, 1)
    logits[:-1, begin:end] = torch.nan
    batch = Batch(
        torch.arange(rows, dtype=torch.int32), torch.full((rows,), -1), torch.zeros(rows), torch.zeros(rows).int()
    )
    record = slots.step(batch, logits, 4)
    alone, _ = stepped(slots, [0], [])
    assert torch.equal(record.rows[-1, c.R_ENTROPY :], alone.rows[0, c.R_ENTROPY :])


@pytest.mark.parametrize("stride", [SIZE + 1, SIZE + 4])
def test_rows_that_begin_anywhere_get_the_same_bits(stride: int) -> None:
    """A row is read four logits at a time where it can be."""
    slots = CompiledSlots(3, SIZE, CPU, kernels=BlockKernels())
    for row in range(3):
        add(slots, row, OTHERS[1], [])
    wide = torch.zeros(3, stride)
    wide[:, :SIZE] = random_logits(SIZE)
    batch = Batch(
        torch.arange(3, dtype=torch.int32), torch.full((3,), -1), torch.zeros(3), torch.zeros(3, dtype=torch.int32)
    )
    record = slots.step(batch, wide[:, :SIZE], 0)
    alone, changed = stepped(slots, [0], [])
    assert torch.equal(wide[:, :SIZE], changed.repeat(3, 1))
    numbers = slice(c.R_ENTROPY, c.R_CONFIDENCE)
    assert torch.equal(record.rows[:, numbers], alone.rows[:, numbers].repeat(3, 1))


def test_a_seed_of_64_bits_arrives_whole() -> None:
    """Chance depends on all of them."""
    some = compiled(policy(rule({"probability": 0.5}, observe={})))
    slots, seeds = CompiledSlots(64, SIZE, CPU, kernels=BlockKernels()), [one << 40 for one in range(64)]
    for slot, seed in enumerate(seeds):
        add(slots, slot, some, [], seed=seed)
    record, _ = stepped(slots, list(range(64)), [])
    assert 16 < sum(fired(record)) < 48
    payload = msgspec.structs.replace(Request(some, seed=-1).payload(), handle=999)
    slots.remove(0)
    slots.add(0, payload, 1.0, [], 0)
    stepped(slots, [0], [])
