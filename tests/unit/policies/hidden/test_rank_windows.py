"""Windows of hidden states by slot: drafts, prompts in pieces, preemption, and rows that are used again."""

from __future__ import annotations

from math import isnan

import pytest
import torch
from torch import Tensor

from forkpoint_policies.compile.program import RankSpan
from forkpoint_policies.hidden.effective_rank import RankState, effective_rank
from forkpoint_policies.hidden.rank_windows import RankWindows

SPAN = RankSpan(window=6, stride=3)
LENGTH, WIDTH = 40, 12


def states_of(seed: int) -> Tensor:
    return torch.randn(LENGTH, WIDTH, generator=torch.Generator().manual_seed(seed))


def expected(states: Tensor, first: int = 0) -> list[RankState]:
    """By position, from windows cut out of the whole text."""
    found, state = [], RankState()
    for position in range(len(states)):
        if position - first + 1 >= SPAN.window and (position + 1) % SPAN.stride == 0:
            state = state.after(effective_rank(states[position + 1 - SPAN.window : position + 1]))
        found.append(state)
    return found


def same(found: list[RankState], wanted: list[RankState]) -> bool:
    return repr(found) == repr(wanted)  # NaN is not equal to itself


def one_by_one(windows: RankWindows, slot: int, states: Tensor, positions: range) -> list[RankState]:
    return [windows.measure([slot], [at], states[at : at + 1])[0] for at in positions]


def test_every_stride_once_the_window_is_full() -> None:
    windows, states = RankWindows(2), states_of(0)
    windows.add(0, 1, SPAN, 0)
    found = one_by_one(windows, 0, states, range(LENGTH))
    assert same(found, expected(states))
    assert [isnan(one.rank) for one in found[:7]] == [True] * 5 + [False] * 2
    assert found[5].rank == found[6].rank == found[7].rank != found[8].rank


def test_a_request_gets_the_same_bits_alone_and_in_a_batch() -> None:
    windows, texts = RankWindows(20), [states_of(seed) for seed in range(20)]
    for slot in range(20):
        windows.add(slot, slot, SPAN if slot % 2 else RankSpan(9, 1), 0)
    together = [windows.measure(range(20), [at] * 20, torch.stack([one[at] for one in texts])) for at in range(LENGTH)]
    for slot in (1, 7, 19):
        assert same([step[slot] for step in together], expected(texts[slot]))


@pytest.mark.parametrize("accepted", [0, 1, 2])
def test_drafts_count_once_they_are_accepted(accepted: int) -> None:
    """Of two drafts at each step, so many are right; the states of the others are nonsense."""
    windows, states = RankWindows(1, depth=3), states_of(3)
    windows.add(0, 1, SPAN, 0)
    found, wanted, at = dict[int, RankState](), expected(states), 0
    while at + 2 < LENGTH:
        rows = states[at : at + 3].clone()
        rows[accepted + 1 :] = 50.0
        measured = windows.measure([0] * 3, [at, at + 1, at + 2], rows)
        found |= {at + row: measured[row] for row in range(accepted + 1)}
        at += accepted + 1
    assert same(list(found.values()), wanted[: len(found)])
    assert len(found) >= LENGTH - 3


def test_a_prompt_in_pieces_counts_once() -> None:
    windows, states = RankWindows(1), states_of(4)
    windows.add(0, 1, SPAN, 0)
    for _ in range(3):  # V1 evaluates its pieces at position 0, V2 at negative ones
        windows.measure([0], [0], torch.full((1, WIDTH), 9.0))
        windows.measure([0], [-7], torch.full((1, WIDTH), 9.0))
    assert same(one_by_one(windows, 0, states, range(LENGTH)), expected(states))


def test_a_preempted_request_resumes_with_its_window() -> None:
    windows, states = RankWindows(2), states_of(5)
    windows.add(0, 1, SPAN, 0)
    before = one_by_one(windows, 0, states, range(17))
    windows.remove(0)
    windows.add(0, 2, SPAN, 0)  # another takes its slot, and the one row that is left
    one_by_one(windows, 0, states_of(6), range(20))
    windows.add(1, 1, SPAN, 17)
    windows.measure([1], [8], torch.full((1, WIDTH), 9.0))  # its tokens are computed again, in pieces
    assert same([*before, *one_by_one(windows, 1, states, range(17, LENGTH))], expected(states))


def test_without_its_window_it_starts_again() -> None:
    windows, states = RankWindows(1), states_of(7)
    windows.add(0, 1, SPAN, 0)
    one_by_one(windows, 0, states, range(17))
    windows.remove(0)
    windows.add(0, 2, SPAN, 0)  # takes its row
    windows.remove(0)
    windows.add(0, 1, SPAN, 17)
    found = one_by_one(windows, 0, states, range(17, LENGTH))
    assert same(found, expected(states, first=17)[17:])
    assert isnan(found[5].rank)
    assert not isnan(found[6].rank)


def test_others_cost_nothing_and_know_nothing() -> None:
    windows = RankWindows(4)
    windows.add(2, 1, SPAN, 0)
    found = windows.measure([3, 2, -1], [0, 0, 0], torch.zeros(3, WIDTH))
    assert all(isnan(one.rank) for one in found)
