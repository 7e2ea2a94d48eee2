"""The state of request slots."""

from __future__ import annotations

import torch
from forkpoint_policies.slots import Slots
from forkpoint_policies.spec import MOST_RULES

CPU = torch.device("cpu")


def used(count: int = 3) -> Slots:
    """Slots of which each has seen something."""
    slots = Slots.allocate(count, CPU)
    for tensor, seen in ((slots.position, 7), (slots.word_state, 3), (slots.in_reasoning, 0), (slots.fired, 2), (slots.pending, 1)):
        tensor.fill_(seen)
    return slots


def test_there_is_room_for_the_rules_of_any_policy() -> None:
    slots = Slots.allocate(5, CPU)
    assert slots.fired.shape == slots.pending.shape == (5, MOST_RULES)


def test_a_request_that_starts_inherits_nothing() -> None:
    slots = used()
    slots.start(1, position=4, word_state=9, in_reasoning=True)
    assert (slots.position.tolist(), slots.word_state.tolist()) == ([7, 4, 7], [3, 9, 3])
    assert slots.in_reasoning.tolist() == [False, True, False]
    assert slots.fired.sum(dim=1).tolist() == [2 * MOST_RULES, 0, 2 * MOST_RULES]
    assert slots.pending.any(dim=1).tolist() == [True, False, True]


def test_counts_are_kept_through_a_preemption() -> None:
    """What fired at a position counts if its token was committed before the request is resumed, and not if it is drawn anew."""
    for resumed_at, expected in ((7, [5, 2]), (8, [6, 2])):
        slots = Slots.allocate(2, CPU)
        slots.position[0] = 7
        slots.fired[0, :2] = torch.tensor([5, 2])
        slots.pending[0, 0] = True
        counts = slots.counts(0)
        slots.start(0, position=0, word_state=0, in_reasoning=True)  # another request in between
        slots.fired[0] = 99
        slots.start(1, position=resumed_at, word_state=0, in_reasoning=True)
        slots.restore_counts(1, resumed_at, counts)
        assert slots.fired[1, :3].tolist() == [*expected, 0]
        assert not slots.pending[1].any()
