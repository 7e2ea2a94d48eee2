"""The state of slots: initialised, read and written by cell, saved and restored."""

from __future__ import annotations

from dataclasses import fields

import torch

from forkpoint_policies.compile.regions import Region
from forkpoint_policies.kernel.program_uses import Uses
from forkpoint_policies.kernel.state import NO_RULE, Slots, State

CPU = torch.device("cpu")
PARTS = [one.name for one in fields(Uses) if one.name != "signals"]
ALL, NOTHING = (Uses(signals=(), **dict.fromkeys(PARTS, used)) for used in (True, False))


def tensors(state: State) -> list[torch.Tensor]:
    parts = [getattr(state, one.name) for one in fields(State)]
    return [getattr(part, one.name) for part in parts if part is not None for one in fields(part)]


def used(count: int, depth: int) -> Slots:
    """Slots in which each entry of each cell was written with a different value."""
    slots = Slots(count, depth, CPU)
    for tensor in tensors(slots.state):
        cells = torch.arange(1, count * depth + 2).view(-1, *[1] * (tensor.dim() - 1))
        tensor.copy_((cells % 2 if tensor.dtype == torch.bool else cells).expand_as(tensor))
    return slots


def test_a_slot_starts_without_state_of_its_last_request() -> None:
    slots, fresh = used(3, 2), Slots(3, 2, CPU)
    before = [tensor.clone() for tensor in tensors(slots.state)]
    slots.start(1, position=4, word_state=9, region=Region.REASONING)
    fresh.start(1, position=4, word_state=9, region=Region.REASONING)
    for now, was, new in zip(tensors(slots.state), before, tensors(fresh.state), strict=True):
        assert torch.equal(now[2:4], new[2:4])
        assert torch.equal(now[:2], was[:2])
        assert torch.equal(now[4:], was[4:])
    core, texts = slots.state.core, slots.state.texts
    assert texts is not None
    assert (int(core.position[2]), int(core.word_state[2]), int(core.region[2]), int(texts.rule[2])) == (
        4,
        9,
        Region.REASONING,
        NO_RULE,
    )


def test_a_copied_state_is_restored_completely() -> None:
    slots = used(3, 2)
    saved = slots.copy_of(0, ALL)
    slots.start(0, position=0, word_state=0, region=Region.ANSWER)
    slots.restore(2, saved)
    for now, was in zip(tensors(slots.state), tensors(used(3, 2).state), strict=True):
        assert torch.equal(now[4:6], was[:2])
        assert torch.equal(now[2:4], was[2:4])


def test_cells_are_read_as_copies_and_written_back() -> None:
    slots, cells = used(2, 2), torch.tensor([3, 0])
    state = slots.read(cells, ALL)
    assert state.core.position.tolist() == [4, 1]
    for tensor in tensors(state):
        tensor.zero_()
    assert all(tensor.any() for tensor in tensors(slots.state))
    slots.write(cells, state)
    for tensor, was in zip(tensors(slots.state), tensors(used(2, 2).state), strict=True):
        assert not tensor[cells].any()
        assert torch.equal(tensor[1:3], was[1:3])


def test_only_the_parts_in_use_are_read() -> None:
    state = used(2, 1).read(torch.tensor([1]), NOTHING)
    assert [one.name for one in fields(State) if getattr(state, one.name) is not None] == ["core"]
