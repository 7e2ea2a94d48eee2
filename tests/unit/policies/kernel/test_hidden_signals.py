"""Conditions on signals of hidden states, in the worker: which positions they hold at, in both steps."""

from __future__ import annotations

from math import nan

import numpy as np
import pytest
import torch

from forkpoint_policies.hidden.effective_rank import RankState, effective_rank
from forkpoint_policies.kernel.step_types import Batch
from forkpoint_policies.spec import InputError
from forkpoint_policies.worker.policy_slots import PolicySlots
from tests.unit.policies.factories import CPU, Json, Record, Request, compiled, fired, policy, random_logits, rule
from tests.unit.policies.vocabularies import SIZE

SPAN: Json = {"rank_window": 6, "rank_stride": 2}
LENGTH, WIDTH = 30, 16
STATES = (
    torch.randn(LENGTH, WIDTH, generator=torch.Generator().manual_seed(0)) * torch.linspace(0.5, 4, LENGTH)[:, None]
)


def measured() -> list[RankState]:
    found, state = [], RankState()
    for position in range(LENGTH):
        if position >= 5 and position % 2:
            state = state.after(effective_rank(STATES[position - 5 : position + 1]))
        found.append(state)
    return found


RANKS = measured()


def fired_at(*rules: Json, beside: Json | None = None) -> tuple[list[list[int]], torch.Tensor]:
    """Which rules fire at each position, and the signals in the records. `beside`: another request's policy, in a row
    before."""
    slots = PolicySlots(2, SIZE, CPU)
    program = compiled(policy(*rules))
    slots.add(0, Request(program).payload(), 1.0, [])
    rows = [0]
    if beside is not None:
        slots.add(1, Request(compiled(beside), handle=2).payload(), 1.0, [])
        rows = [1, 0]
    found, hidden = [], []
    for position in range(LENGTH):
        batch = Batch(
            torch.tensor(rows, dtype=torch.int32),
            torch.full((len(rows),), position - 1),
            torch.zeros(len(rows), dtype=torch.int64),
            torch.zeros(2, dtype=torch.int32),
        )
        states = STATES[position].repeat(len(rows), 1)
        record = slots.step(batch, random_logits(len(rows), SIZE, seed=position), states)
        found.append(fired(Record.of(record, [len(rows) - 1], len(program.rules))))
        if record.hidden is not None:
            hidden.append(record.hidden[-1])
    return found, torch.stack(hidden) if hidden else torch.zeros(0)


@pytest.mark.parametrize("name", ["rank", "velocity", "acceleration"])
@pytest.mark.parametrize(
    "beside", [None, policy(rule(observe={})), policy(rule({"effective_rank_above": 1.0}, observe={}))]
)
def test_bounds_hold_where_the_signal_lies_within_them(name: str, beside: Json | None) -> None:
    values = [getattr(one, name) for one in RANKS]
    middle = float(np.nanmedian(values))
    field = "effective_rank" if name == "rank" else f"effective_rank_{name}"
    found, _ = fired_at(
        rule({f"{field}_above": middle, **SPAN}, observe={}), rule({f"{field}_below": middle, **SPAN}, observe={}),
        beside=beside,
    )  # fmt: skip
    rounded = np.array(values, np.float32)
    assert found == [
        [0] * bool(value > np.float32(middle)) + [1] * bool(value < np.float32(middle)) for value in rounded
    ]
    assert 5 < sum(map(bool, found)) < LENGTH - 4, "not before the window is full"


def test_the_record_has_the_signals() -> None:
    _, hidden = fired_at(rule({"effective_rank_above": 3.0, **SPAN}, observe={}))
    wanted = torch.tensor([(one.rank, one.velocity, one.acceleration) for one in RANKS])
    assert torch.equal(hidden[:, :3].nan_to_num(nan=-1.0), wanted.nan_to_num(nan=-1.0))
    assert hidden[:, 3:].isnan().all(), "the policy names no readout"
    assert hidden[:5].isnan().all()


def test_a_policy_without_them_has_none() -> None:
    found, hidden = fired_at(rule(observe={}))
    assert (found, len(hidden)) == ([[0]] * LENGTH, 0)


def test_without_states_no_bound_holds() -> None:
    slots = PolicySlots(1, SIZE, CPU)
    program = compiled(policy(rule({"effective_rank_above": 1.0, "rank_window": 2, "rank_stride": 1}, observe={})))
    slots.add(0, Request(program).payload(), 1.0, [])
    for position in range(6):
        batch = Batch(
            torch.zeros(1, dtype=torch.int32), torch.tensor([position - 1]), torch.tensor([0]), torch.zeros(1).int()
        )
        assert fired(Record.of(slots.step(batch, random_logits(1, SIZE)), [0], 1)) == []


@pytest.mark.parametrize(("field", "value"), [("rank_window", 8), ("rank_stride", 4)])
def test_a_policy_has_one_window(field: str, value: int) -> None:
    one, other = ({"effective_rank_above": 3.0, **SPAN, **more} for more in ({}, {field: value}))
    with pytest.raises(InputError, match="a policy has one") as caught:
        compiled(policy(rule(one, observe={}), rule(other, observe={})))
    assert caught.value.field == f"policy.rules[1].when.{field}"


def test_rank_states_are_not_known_at_first() -> None:
    assert repr(RANKS[4]) == repr(RankState(nan, nan, nan))


def test_a_branch_starts_with_an_empty_window() -> None:
    """The states of the tokens that it shares are in the cache; strides are counted over the whole text."""
    program = compiled(policy(rule({"effective_rank_above": 1.0, **SPAN}, observe={})))
    slots, found = PolicySlots(1, SIZE, CPU), []
    slots.add(0, Request(program, num_shared_tokens=9).payload(), 1.0, [])
    for own in range(10):
        batch = Batch(
            torch.zeros(1, dtype=torch.int32), torch.tensor([own - 1]), torch.tensor([0]), torch.zeros(1).int()
        )
        record = slots.step(batch, random_logits(1, SIZE, seed=own), STATES[own : own + 1])
        found.append(fired(Record.of(record, [0], 1)))
    assert found == [[]] * 6 + [[0]] * 4, "its window is full at its position 14, and measured at 15"
