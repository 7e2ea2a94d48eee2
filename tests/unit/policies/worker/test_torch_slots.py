"""The layout of a batch, as the step in torch's operations prepares it."""

from __future__ import annotations

from forkpoint_policies.kernel.batch import Layout
from forkpoint_policies.worker.torch_slots import TorchSlots
from tests.unit.policies.factories import CPU, Request, compiled, policy, rule
from tests.unit.policies.vocabularies import SIZE

SUPPRESSING = compiled(policy(rule(suppress={"token_ids": [1]})))
OTHER = compiled(policy(rule(suppress={"token_ids": [5]})))


def plain_layout(temperature: float = 1.0) -> Layout:
    slots = TorchSlots(2, SIZE, CPU)
    slots.add(0, Request(SUPPRESSING).payload(), temperature, [], address=0)
    return slots.layout([slots.row(0, 0)], 1)


def test_a_layout_has_only_the_parts_that_its_batch_needs() -> None:
    layout = plain_layout()
    assert (layout.rows, layout.moves, layout.marks, layout.shadow, layout.greedy, layout.detailed) == (None,) * 6
    assert (layout.tempered, layout.windowed, layout.forcing) == (None,) * 3
    assert plain_layout(temperature=0.7).tempered is not None
    assert plain_layout(temperature=0.0).greedy is not None


def test_requests_with_the_same_program_share_it() -> None:
    slots = TorchSlots(3, SIZE, CPU)
    for slot, program in enumerate((SUPPRESSING, OTHER, SUPPRESSING)):
        slots.add(slot, Request(program, handle=slot).payload(), 1.0, [], address=0)
    index = slots.layout([slots.row(slot, slot) for slot in range(3)], 3).turns[0].program
    assert index[0] == index[2] != index[1]
